// The types that a kernel is compiled for.

#ifndef REAL
#define REAL float  // the type of the arrays: float, double or __half
#endif
#ifndef SUM
#define SUM float  // the type of the sums: float where REAL is __half
#endif
#include <cuda_fp16.h>

typedef REAL real;
typedef SUM sum_t;
