// The steps of SGD and Adam, for many parameters in one launch; the formulas stand in reference.py.
//
// A network has hundreds of parameters, most of them tiny: a launch for each would cost more than its work. A
// launch takes a table, which travels with its arguments. Row y of the grid moves parameter y:
//
//       table                         x = 0    1    2    3         thread t of block x moves the elements
//       y = 0   w g state count       [wwww][wwww][wwww][ww  ]     x·BLOCK + t, then the one a grid further,
//       y = 1   w g state count       [ww  ][    ][    ][    ]     and so on
//       y = 2   w g state count       [wwww][w   ][    ][    ]
//
// float16 is moved in float32, and rounded when it is written.

#include "block.cuh"
#ifndef ROWS
#define ROWS 64  // of a table: CUDA passes 4 KB of arguments
#endif

struct Parameter {  // filled in by cuda_optim.py
    real *w;
    const real *g;
    real *state[3];  // 0: none
    long long count;
};

struct Table {
    Parameter row[ROWS];
};

struct Sgd {
    sum_t lr, momentum, fresh, weight_decay;  // fresh: 1 - dampening
    int nesterov, maximize;

    __device__ void step(const Parameter &p, long long i) const {
        const sum_t w = sum_t(p.w[i]);
        sum_t g = maximize ? -sum_t(p.g[i]) : sum_t(p.g[i]);
        if (weight_decay) g += weight_decay * w;
        if (p.state[0]) {
            const sum_t v = momentum * sum_t(p.state[0][i]) + fresh * g;
            p.state[0][i] = real(v);
            g = nesterov ? g + momentum * v : v;
        }
        p.w[i] = real(w - lr * g);
    }
};

struct Adam {
    sum_t rate, eps;                     // with the corrections of m and v
    sum_t fresh_m, beta2, fresh_v;       // fresh: 1 - beta1, 1 - beta2
    sum_t weight_decay, shrinkage;       // of the gradient, or of w itself
    int maximize;

    __device__ void step(const Parameter &p, long long i) const {
        const sum_t w = shrinkage * sum_t(p.w[i]), old_m = sum_t(p.state[0][i]);
        sum_t g = maximize ? -sum_t(p.g[i]) : sum_t(p.g[i]);
        if (weight_decay) g += weight_decay * w;
        const sum_t m = old_m + fresh_m * (g - old_m);
        sum_t v = beta2 * sum_t(p.state[1][i]) + fresh_v * (g * g);
        p.state[0][i] = real(m), p.state[1][i] = real(v);
        if (p.state[2]) {
            const sum_t largest = sum_t(p.state[2][i]);
            if (!(v > largest) && v == v) v = largest;  // NaN stays
            p.state[2][i] = real(v);
        }
        p.w[i] = real(w - rate * (m / (sqrt(v) + eps)));
    }
};

// ---- plain: one parameter, a thread for each element ---------------------------------------------------

extern "C" __global__ void sgd_plain(Parameter p, Sgd options) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < p.count) options.step(p, i);
}

extern "C" __global__ void adam_plain(Parameter p, Adam options) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < p.count) options.step(p, i);
}

// ---- many parameters -----------------------------------------------------------------------------------

#define FOR_EACH_OF(p) \
    for (long long i = (long long)blockIdx.x * BLOCK + threadIdx.x; i < p.count; i += (long long)gridDim.x * BLOCK)

extern "C" __global__ void sgd(Table table, Sgd options) {
    const Parameter &p = table.row[blockIdx.y];
    FOR_EACH_OF(p) options.step(p, i);
}

extern "C" __global__ void adam(Table table, Adam options) {
    const Parameter &p = table.row[blockIdx.y];
    FOR_EACH_OF(p) options.step(p, i);
}
