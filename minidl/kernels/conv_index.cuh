// The index mathematics of the convolution trio: which elements meet.
//
// Input position i, kernel tap k and output position q meet where  i = s·q + d·k − p  on every axis (stride s,
// dilation d, padding p). There are always three axes: an image is a volume of depth 1, a signal an image of
// height 1. Seen as a product of matrices C = A · B, for each group of channels:
//
//                 rows m        columns n          inner index k      A[m][k]       B[k][n]
//   conv          channel o     (sample, q)        (channel c, tap)   w[o, c, k]    x[c, s·q + d·k − p]
//   conv_input    channel c     (sample, i)        (channel o, tap)   w[o, c, k]    y[o, (i + p − d·k) / s]
//   conv_weight   channel o     (channel c, tap)   (sample, q)        y[o, q]       x[c, s·q + d·k − p]
//
// B is never stored ("implicit GEMM"). It is an image read at the SUM of two places, a pixel's and a tap's:
//
//       pixel (n, q):  offset n·C·S,  position s·q − p         tap (c, k):  offset c·S,  position d·k
//       their sum:     the element of the image, if it lies inside on every axis, else 0
//
// So the place of each row and of each column is worked out once, with divisions, and kept in shared memory;
// an element costs an addition and a comparison per axis.

#include "types.cuh"

struct Geometry {  // filled in by cuda_conv.py
    int samples, groups, outs, ins;  // N, G, and the channels of one group: O/G, C/G
    int size[3], outputs[3], kernel[3], stride[3], padding[3], dilation[3];  // S, Q, K, s, p, d
    int phases[3];  // of conv_input
    int splits;     // the inner index is cut into so many parts, which are added up afterwards
};

__device__ int volume(const int n[3]) { return n[0] * n[1] * n[2]; }

struct Place {  // of an element of the image: its offset in memory, and its position on each axis
    int offset, i[3];
};

const int OUTSIDE = -(1 << 29);  // on any axis it makes a sum of two places lie outside

struct Axis {
    int size;                      // of the image that B reads
    int count, stride, origin;     // its output positions v: the image is read at stride·v + origin ...
    int taps, dilation;            // ... + dilation·j for the tap j
    int first_place, place_step;   // v is the output position first_place + place_step·v
    int first_tap, tap_step;       // j is the kernel tap first_tap + tap_step·j
};

__device__ Axis conv_axis(const Geometry &g, int a) {
    return {g.size[a], g.outputs[a], g.stride[a], -g.padding[a], g.kernel[a], g.dilation[a], 0, 1, 0, 1};
}

// conv_input on one axis. The input positions i = r + s·v (phase r of s) meet only the taps for which
// i + p − d·k is a multiple of s: every (s / gcd(s, d))-th, from the first that fits. So each phase is a
// convolution of y with stride 1 and with taps of its own, and none multiplies by zeros in between:
//
//      s = 2, k = 3, p = 1:      x  0 1 2 3 4 5 ...      phase 0 (0, 2, 4 ...) meets tap 1
//                                                        phase 1 (1, 3, 5 ...) meets taps 0 and 2
//
// Where kernel = stride each phase has one tap: a 1 × 1 convolution, written to every s-th pixel.
__device__ Axis phase_axis(const Geometry &g, int a, int r) {
    const int s = g.stride[a], d = g.dilation[a], K = g.kernel[a];
    int step = 1, first = 0;
    while (d * step % s) step++;
    while (first < step && (r + g.padding[a] - d * first) % s) first++;
    const int taps = first < step && first < K ? (K - first + step - 1) / step : 0;
    const int count = (g.size[a] - r + s - 1) / s;
    const int origin = taps ? (r + g.padding[a] - d * first) / s : 0;
    return {g.outputs[a], count, 1, origin, taps, -(d * step / s), r, s, first, step};
}

// The meeting of one image with one set of taps.
struct Meeting {
    Axis axis[3];
    int samples, sample_stride;  // of the image
    int channels;                // of the image, in a group

    __device__ int pixels() const { return samples * axis[0].count * axis[1].count * axis[2].count; }
    __device__ int taps() const { return axis[0].taps * axis[1].taps * axis[2].taps; }

    __device__ Place place(int offset, int i0, int i1, int i2) const {
        return {offset + (i0 * axis[1].size + i1) * axis[2].size + i2, {i0, i1, i2}};
    }

    __device__ Place pixel(int n, int v[3], int &sample) const {  // n = (sample, v)
        v[2] = n % axis[2].count, n /= axis[2].count;
        v[1] = n % axis[1].count, n /= axis[1].count;
        v[0] = n % axis[0].count, sample = n / axis[0].count;
        return place(sample * sample_stride, v[0] * axis[0].stride + axis[0].origin,
                     v[1] * axis[1].stride + axis[1].origin, v[2] * axis[2].stride + axis[2].origin);
    }

    __device__ Place tap(int k, int j[3], int &channel) const {  // k = (channel, j)
        j[2] = k % axis[2].taps, k /= axis[2].taps;
        j[1] = k % axis[1].taps, k /= axis[1].taps;
        j[0] = k % axis[0].taps, channel = k / axis[0].taps;
        return place(channel * axis[0].size * axis[1].size * axis[2].size,
                     j[0] * axis[0].dilation, j[1] * axis[1].dilation, j[2] * axis[2].dilation);
    }

    __device__ real at(const real *image, const Place &pixel, const Place &tap) const {
        const bool inside = (unsigned)(pixel.i[0] + tap.i[0]) < (unsigned)axis[0].size
                          & (unsigned)(pixel.i[1] + tap.i[1]) < (unsigned)axis[1].size
                          & (unsigned)(pixel.i[2] + tap.i[2]) < (unsigned)axis[2].size;
        return inside ? image[pixel.offset + tap.offset] : real(0.0f);
    }
};
