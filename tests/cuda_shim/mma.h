// nvcuda::wmma on the CPU: every thread of the warp holds the whole 16 x 16 fragment, and computes all of it.
#pragma once
namespace nvcuda {
namespace wmma {
struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
namespace precision {
struct tf32 {};
}  // namespace precision
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int M, int N, int K, class Type, class Layout = void>
struct fragment {
    float v[16][16];
};

template <class F>
void fill_fragment(F &f, float value) {
    for (auto &row : f.v)
        for (float &e : row) e = value;
}

template <int M, int N, int K, class Type, class T>
void load_matrix_sync(fragment<matrix_a, M, N, K, Type, col_major> &f, const T *p, unsigned row) {
    for (int m = 0; m < M; m++)
        for (int k = 0; k < K; k++) f.v[m][k] = (float)p[k * row + m];
}

template <int M, int N, int K, class Type, class T>
void load_matrix_sync(fragment<matrix_b, M, N, K, Type, row_major> &f, const T *p, unsigned row) {
    for (int k = 0; k < K; k++)
        for (int n = 0; n < N; n++) f.v[k][n] = (float)p[k * row + n];
}

template <int M, int N, int K, class TA, class LA, class TB, class LB, class TC>
void mma_sync(fragment<accumulator, M, N, K, TC> &d, const fragment<matrix_a, M, N, K, TA, LA> &a,
              const fragment<matrix_b, M, N, K, TB, LB> &b, const fragment<accumulator, M, N, K, TC> &c) {
    for (int m = 0; m < M; m++)
        for (int n = 0; n < N; n++) {
            float sum = c.v[m][n];
            for (int k = 0; k < K; k++) sum += a.v[m][k] * b.v[k][n];
            d.v[m][n] = sum;
        }
}

template <class F>
void store_matrix_sync(float *p, const F &f, unsigned row, layout_t) {
    for (int m = 0; m < 16; m++)
        for (int n = 0; n < 16; n++) p[m * row + n] = f.v[m][n];
}

static float __float_to_tf32(float x) {  // to the nearest number with 10 bits after the point
    unsigned bits;
    memcpy(&bits, &x, 4);
    bits = (bits + 0x1000u) & ~0x1fffu;
    memcpy(&x, &bits, 4);
    return x;
}
}  // namespace wmma
}  // namespace nvcuda
