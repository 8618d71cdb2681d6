// Matrices in panels and their products. Included by sampler.cpp after vectors.h, once for each kind of processor.

constexpr int NR = 2 * W;  // outputs of a panel

// A matrix of k inputs and n outputs, in panels of NR outputs; what one step multiplies lies side by side.
struct Matrix {
    int k, n;
    const E* data;

    const E* panel(int p) const { return data + static_cast<size_t>(p) * k * NR; }
};

inline Matrix pack(const float* source, int k, int n, E* to) {  // source is (k, n); `to` has room for as many
    constexpr int S = step_of<E>();
    const Matrix m{k, n, to};
    for (int p = 0; p < n; p += NR)
        for (int i = 0; i < k; i += S)
            for (int o = 0; o < NR; ++o)
                for (int s = 0; s < S; ++s) *to++ = element(source[static_cast<size_t>(i + s) * n + p + o]);
    return m;
}

// out (R, NR) = start + the sum over `sources` of x (R, k) times the panel's next k inputs.
template <class T, int R>
void tile(const T* const* base, int sources, int k, const ptrdiff_t* offset, const T* w, const float* const* start,
          float* out) {
    constexpr int S = step_of<T>(), U = R == 1 ? 4 : R <= 3 ? 2 : 1;  // chains of sums, so that none waits for itself
    V sum[U][R][2];
    for (int u = 0; u < U; ++u)
        for (int r = 0; r < R; ++r)
            for (int c = 0; c < 2; ++c) sum[u][r][c] = fill(0.0f);
    for (int s = 0; s < sources; ++s) {
        const T* x[R];
        for (int r = 0; r < R; ++r) x[r] = base[s] + offset[r];
        int i = 0;
        for (; i + U * S <= k; i += U * S)
#pragma GCC unroll 4
            for (int u = 0; u < U; ++u, w += S * NR)
#pragma GCC unroll 8
                for (int r = 0; r < R; ++r) {
                    sum[u][r][0] = multiply_add(w, x[r] + i + u * S, sum[u][r][0]);
                    sum[u][r][1] = multiply_add(w + S * W, x[r] + i + u * S, sum[u][r][1]);
                }
        for (; i < k; i += S, w += S * NR)
            for (int r = 0; r < R; ++r) {
                sum[0][r][0] = multiply_add(w, x[r] + i, sum[0][r][0]);
                sum[0][r][1] = multiply_add(w + S * W, x[r] + i, sum[0][r][1]);
            }
    }
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < 2; ++c) {
            V total = sum[0][r][c];
            for (int u = 1; u < U; ++u) total = add(total, sum[u][r][c]);
            if (start) total = add(total, load(start[r] + c * W));  // last: it may have to come from afar
            store(out + r * NR + c * W, total);
        }
}

template <class T>
void product(int rows, const T* const* base, int sources, int k, const ptrdiff_t* offset, const T* w,
             const float* const* start, float* out) {
    switch (rows) {
        case 1: return tile<T, 1>(base, sources, k, offset, w, start, out);
        case 2: return tile<T, 2>(base, sources, k, offset, w, start, out);
        case 3: return tile<T, 3>(base, sources, k, offset, w, start, out);
        case 4: return tile<T, 4>(base, sources, k, offset, w, start, out);
        case 5: if constexpr (MR > 4) return tile<T, 5>(base, sources, k, offset, w, start, out); break;
        case 6: if constexpr (MR > 4) return tile<T, 6>(base, sources, k, offset, w, start, out); break;
        case 7: if constexpr (MR > 6) return tile<T, 7>(base, sources, k, offset, w, start, out); break;
        case 8: if constexpr (MR > 6) return tile<T, 8>(base, sources, k, offset, w, start, out); break;
    }
}
