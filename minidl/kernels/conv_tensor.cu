// The convolution trio on tensor cores: the products of conv.cu, many multiply-adds at an instruction.
//
// A warp (32 threads) computes WM × WN elements of the block's tile as fragments of 16 × 16, each spread over
// the registers of the warp:
//
//      ┌────┬────┐ 16
//      │    │    │               one instruction:
//      ├────┼────┤
//      │    │    │                  C += A · B          float16:  16×16 += 16×16 · 16×16
//      ├────┼────┤                                      TF32:     16×16 += 16×8 · 8×16
//      │    │    │
//      ├────┼────┤               WM = 64, WN = 32
//      │    │    │
//      └────┴────┘
//        16   16
//
// The sums are float32. TF32 is float32 with 10 bits of mantissa instead of 23: a factor is wrong by up to
// 2⁻¹¹ of itself, so it is used only where it was allowed. Needs sm_70 for float16, sm_80 for TF32.

#ifndef BM  // the tile of a block, the tile of a warp, the depth of a step, the threads of a block
#define BM 128
#define BN 128
#define WM 64
#define WN 32
#define BK 16
#define BLOCK 256
#endif
const int PAD = 8;  // elements at the end of a row: fragments start at multiples of 16 bytes

#ifndef REAL
#define REAL __half
#endif
#include "conv_product.cuh"
#include <mma.h>
using namespace nvcuda;

template <class T>
struct Precision;  // of the factors

template <>
struct Precision<__half> {
    typedef __half type;
    static const int DEPTH = 16;  // inner index of one instruction
    static __device__ __half round(__half value) { return value; }
};

#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
template <>
struct Precision<float> {
    typedef wmma::precision::tf32 type;
    static const int DEPTH = 8;
    static __device__ float round(float value) { return wmma::__float_to_tf32(value); }  // else it is cut off
};
#endif

struct WarpTile {
    typedef real element;
    typedef Precision<real> P;
    // A lies in shared memory as [k][m], B as [k][n]
    typedef wmma::fragment<wmma::matrix_a, 16, 16, P::DEPTH, P::type, wmma::col_major> FragmentA;
    typedef wmma::fragment<wmma::matrix_b, 16, 16, P::DEPTH, P::type, wmma::row_major> FragmentB;
    wmma::fragment<wmma::accumulator, 16, 16, P::DEPTH, float> c[WM / 16][WN / 16];

    static __device__ real convert(real value) { return P::round(value); }
    static __device__ int row() { return threadIdx.x / 32 / (BN / WN) * WM; }
    static __device__ int column() { return threadIdx.x / 32 % (BN / WN) * WN; }

    __device__ WarpTile() {
#pragma unroll
        for (int i = 0; i < WM / 16; i++)
#pragma unroll
            for (int j = 0; j < WN / 16; j++) wmma::fill_fragment(c[i][j], 0.0f);
    }

    __device__ void multiply(const real (*A)[BM + PAD], const real (*B)[BN + PAD]) {
#pragma unroll
        for (int k = 0; k < BK; k += P::DEPTH) {
            FragmentA a[WM / 16];
#pragma unroll
            for (int i = 0; i < WM / 16; i++) wmma::load_matrix_sync(a[i], &A[k][row() + 16 * i], BM + PAD);
#pragma unroll
            for (int j = 0; j < WN / 16; j++) {
                FragmentB b;
                wmma::load_matrix_sync(b, &B[k][column() + 16 * j], BN + PAD);
#pragma unroll
                for (int i = 0; i < WM / 16; i++) wmma::mma_sync(c[i][j], a[i], b, c[i][j]);
            }
        }
    }

    // Which thread holds which element of a fragment is the hardware's secret: they go through shared memory.
    template <class Put>
    __device__ void each(float *scratch, Put put) {
        static_assert(2 * BK * (BN + PAD) * sizeof(real) >= BLOCK / 32 * 256 * sizeof(float), "scratch too small");
        float *square = scratch + threadIdx.x / 32 * 256;
#pragma unroll
        for (int i = 0; i < WM / 16; i++)
#pragma unroll
            for (int j = 0; j < WN / 16; j++) {
                wmma::store_matrix_sync(square, c[i][j], 16, wmma::mem_row_major);
                __syncwarp();
                for (int e = threadIdx.x % 32; e < 256; e += 32)
                    put(row() + 16 * i + e / 16, column() + 16 * j + e % 16, square[e]);
                __syncwarp();
            }
    }
};

extern "C" __global__ void __launch_bounds__(BLOCK, 512 / BLOCK)
conv(real *y, sum_t *partial, const real *w, const real *x, Geometry g) {
    conv_tile<WarpTile>(y, partial, w, x, g);
}

extern "C" __global__ void __launch_bounds__(BLOCK, 512 / BLOCK)
conv_input(real *x, sum_t *partial, const real *w, const real *y, Geometry g) {
    conv_input_tile<WarpTile>(x, partial, w, y, g);
}

extern "C" __global__ void __launch_bounds__(BLOCK, 512 / BLOCK)
conv_weight(real *w, sum_t *partial, const real *y, const real *x, Geometry g) {
    conv_weight_tile<WarpTile>(w, partial, y, x, g);
}
