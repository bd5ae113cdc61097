// Max-pooling of x (N, C, *S): where each window has its maximum, as a flat index in the (n, c) plane, and
// the adjoint of taking the elements there. A plane has three axes; those that are missing have size 1.
//
// Along an axis a window is a span of samples, and a sample is seen by a span of windows. Tables of the
// spans make strides, padding, dilation and adaptive windows all the same here. Kernel 3, stride 2,
// padding 1, five samples:
//
//      sample       0  1  2  3  4       window begin end       sample begin end     (windows that see it)
//      window 0    [0][1]                  0     0    2           0     0    1
//      window 1       [1][2][3]            1     1    4           1     0    2
//      window 2             [3][4]         2     3    5           2     1    2
//                                                                 3     1    3
//                                                                 4     2    3
//
// Under dilation a window sees every step-th sample of its span. The span of a sample then holds windows
// that miss it: they do no harm, for their maximum is elsewhere.
//
// A thread for each element of the result, which nobody else writes. There is no arithmetic to hide, and the
// cache holds what neighbouring threads share: the plain kernels are the fast ones.

#include "block.cuh"

struct Pool {  // filled in by cuda_pool.py
    int size[3], outputs[3], step[3];
};

__device__ int volume(const int size[3]) { return size[0] * size[1] * size[2]; }

__device__ int ravel(const int size[3], int i0, int i1, int i2) { return (i0 * size[1] + i1) * size[2] + i2; }

struct Box {  // the spans along the three axes for element i of planes of that size
    int plane, begin[3], end[3];

    // The table has (begin, end) for each position along the first axis, then the second, then the third.
    __device__ Box(int i, const int size[3], const int *spans) {
        const int row = i / size[2], column = row / size[1];
        const int at[3] = {column % size[0], row % size[1], i % size[2]};
        plane = column / size[0];
        for (int axis = 0; axis < 3; spans += 2 * size[axis++]) {
            begin[axis] = spans[2 * at[axis]];
            end[axis] = spans[2 * at[axis] + 1];
        }
    }
};

#define FOR_EACH_IN(box, step)                                            \
    for (int k0 = box.begin[0]; k0 < box.end[0]; k0 += step[0])           \
        for (int k1 = box.begin[1]; k1 < box.end[1]; k1 += step[1])       \
            for (int k2 = box.begin[2]; k2 < box.end[2]; k2 += step[2])

// index[n,c,q] = argmax_k x[n,c,k] over the samples k of window q: the first of equals, the last NaN
extern "C" __global__ void max_indices(long long *index, const real *x, const int *spans, int count, Pool p) {
    const int i = blockIdx.x * BLOCK + threadIdx.x;
    if (i >= count) return;
    const Box samples(i, p.outputs, spans);
    x += samples.plane * volume(p.size);
    int best = ravel(p.size, samples.begin[0], samples.begin[1], samples.begin[2]);
    sum_t highest = sum_t(x[best]);
    FOR_EACH_IN(samples, p.step) {
        const int here = ravel(p.size, k0, k1, k2);
        const sum_t value = sum_t(x[here]);
        if (value > highest || value != value) highest = value, best = here;
    }
    index[i] = best;
}

// y[n,c,q] = x[n, c, index[n,c,q]]
extern "C" __global__ void take_in_planes(real *y, const real *x, const long long *index, int count, Pool p) {
    const int i = blockIdx.x * BLOCK + threadIdx.x;
    if (i < count) y[i] = x[i / volume(p.outputs) * volume(p.size) + index[i]];
}

// y[n,c,k] = Σ_{q: index[n,c,q] = k} x[n,c,q]: each sample asks the windows that see it, in order
extern "C" __global__ void add_in_windows(real *y, const real *x, const long long *index, const int *spans,
                                          int count, Pool p) {
    const int i = blockIdx.x * BLOCK + threadIdx.x;
    if (i >= count) return;
    const Box windows(i, p.size, spans);
    const int here = i - windows.plane * volume(p.size), first = windows.plane * volume(p.outputs);
    sum_t sum = 0;
    FOR_EACH_IN(windows, p.step) {
        const int q = first + ravel(p.outputs, k0, k1, k2);
        if (index[q] == here) sum += sum_t(x[q]);
    }
    y[i] = real(sum);
}
