// The few vector operations that the sampler needs, for each kind of processor. Included by sampler.cpp, once for each
// inside its namespace; every kind defines V (a vector of floats), W (floats a vector), MR (rows of a tile), E (what
// weights and activations are stored as), put (a vector of activations into memory) and multiply_add (one step of a
// product: a vector of weights times one activation, or one pair of them).

#if defined(KIND_PORTABLE)

constexpr int W = 4, MR = 4;
struct V { float f[W]; };
#define EACH(expression) V r; for (int i = 0; i < W; ++i) r.f[i] = (expression); return r
inline V load(const float* p) { EACH(p[i]); }
inline V fill(float x) { EACH(x); }
inline V add(V a, V b) { EACH(a.f[i] + b.f[i]); }
inline V sub(V a, V b) { EACH(a.f[i] - b.f[i]); }
inline V mul(V a, V b) { EACH(a.f[i] * b.f[i]); }
inline V divide(V a, V b) { EACH(a.f[i] / b.f[i]); }
inline V fma(V a, V b, V c) { EACH(a.f[i] * b.f[i] + c.f[i]); }
inline V larger(V a, V b) { EACH(a.f[i] > b.f[i] ? a.f[i] : b.f[i]); }
inline V smaller(V a, V b) { EACH(a.f[i] < b.f[i] ? a.f[i] : b.f[i]); }
inline V whole(V a) { EACH(std::floor(a.f[i] + 0.5f)); }
inline V power_of_two(V n) {
    V r;
    for (int i = 0; i < W; ++i) {
        const int32_t bits = (static_cast<int32_t>(n.f[i]) + 127) << 23;
        std::memcpy(&r.f[i], &bits, 4);
    }
    return r;
}
#undef EACH
inline void store(float* p, V a) { std::memcpy(p, a.f, sizeof a.f); }

#elif defined(KIND_AVX2)

constexpr int W = 8, MR = 6;
using V = __m256;
inline V load(const float* p) { return _mm256_loadu_ps(p); }
inline V fill(float x) { return _mm256_set1_ps(x); }
inline V add(V a, V b) { return _mm256_add_ps(a, b); }
inline V sub(V a, V b) { return _mm256_sub_ps(a, b); }
inline V mul(V a, V b) { return _mm256_mul_ps(a, b); }
inline V divide(V a, V b) { return _mm256_div_ps(a, b); }
inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
inline V larger(V a, V b) { return _mm256_max_ps(a, b); }
inline V smaller(V a, V b) { return _mm256_min_ps(a, b); }
inline V whole(V a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline V power_of_two(V n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
inline void store(float* p, V a) { _mm256_storeu_ps(p, a); }

#else

constexpr int W = 16, MR = 8;
using V = __m512;
inline V load(const float* p) { return _mm512_loadu_ps(p); }
inline V fill(float x) { return _mm512_set1_ps(x); }
inline V add(V a, V b) { return _mm512_add_ps(a, b); }
inline V sub(V a, V b) { return _mm512_sub_ps(a, b); }
inline V mul(V a, V b) { return _mm512_mul_ps(a, b); }
inline V divide(V a, V b) { return _mm512_div_ps(a, b); }
inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
inline V larger(V a, V b) { return _mm512_max_ps(a, b); }
inline V smaller(V a, V b) { return _mm512_min_ps(a, b); }
inline V whole(V a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline V power_of_two(V n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
inline void store(float* p, V a) { _mm512_storeu_ps(p, a); }

#endif

// Products of float32 are the same for all kinds; attention uses them in bfloat16 too.
inline V multiply_add(const float* weights, const float* x, V sum) { return fma(load(weights), fill(*x), sum); }
inline void put(float* p, V a) { store(p, a); }
template <class T> constexpr int step_of() { return sizeof(T) == 2 ? 2 : 1; }  // activations that one step takes

#if defined(KIND_AVX512BF16)

using E = uint16_t;
inline V multiply_add(const uint16_t* weights, const uint16_t* x, V sum) {
    int32_t pair;
    std::memcpy(&pair, x, 4);
    const __m512i w = _mm512_loadu_si512(weights);
    return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)_mm512_set1_epi32(pair));
}
inline void put(uint16_t* p, V a) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(a));
}
inline E element(float x) {  // rounds to nearest, ties to even
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return static_cast<E>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

#else

using E = float;
inline E element(float x) { return x; }

#endif

// exp to within 2 units in the last place: 2^n times a Taylor polynomial on [-ln 2 / 2, ln 2 / 2].
inline V exponential(V x) {
    x = smaller(larger(x, fill(-87.0f)), fill(88.0f));
    const V n = whole(mul(x, fill(1.44269504f)));
    const V r = fma(n, fill(2.12194440e-4f), fma(n, fill(-0.693359375f), x));
    V p = fill(1.0f / 5040);
    for (const float c : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) p = fma(p, r, fill(c));
    return mul(p, power_of_two(n));
}
inline V sigmoid(V x) { return divide(fill(1.0f), add(fill(1.0f), exponential(sub(fill(0.0f), x)))); }
