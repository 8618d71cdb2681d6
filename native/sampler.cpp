// The cached sampler of manifill/sampling/cached.py without Python in its loop: the whole PixelCNN, a row at a time where rows
// allow it, else position by position. It depends on nothing but the C++17 library; manifill/sampling/native.py calls it through
// ctypes. What each part computes is said there and in manifill/networks/structure.py.

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__))
#define HAVE_X86 1
#include <immintrin.h>
#endif

#if defined(_WIN32)
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

namespace {

// Zeroed memory that starts on a cache line's boundary; what is large lies in large pages where the system has them.
template <class T> class Buffer {
    static constexpr std::align_val_t line{64};
    struct Free {
        void operator()(T* p) const { ::operator delete[](p, line); }
    };
    std::unique_ptr<T[], Free> data;
    size_t count = 0;

public:
    Buffer() = default;
    explicit Buffer(size_t n) : count(n) {
        data.reset(static_cast<T*>(::operator new[](std::max<size_t>(n, 1) * sizeof(T), line)));
#if defined(__linux__)
        const uintptr_t large = 1 << 21, from = (reinterpret_cast<uintptr_t>(data.get()) + large - 1) / large * large;
        const uintptr_t to = reinterpret_cast<uintptr_t>(data.get() + n) / large * large;
        if (from < to) madvise(reinterpret_cast<void*>(from), to - from, MADV_HUGEPAGE);  // a wish: may be refused
#endif
        std::fill_n(data.get(), n, T());
    }
    T* get() const { return data.get(); }
    T& operator[](size_t i) const { return data[i]; }
    size_t size() const { return count; }
};

// Where the members of a team wait for each other; spins at first, since the wait is short.
class Barrier {
    const int size;
    std::atomic<int> waiting{0}, turn{0};

public:
    explicit Barrier(int size) : size(size) {}
    void meet() {
        if (size == 1) return;
        const int now = turn.load(std::memory_order_acquire);
        if (waiting.fetch_add(1, std::memory_order_acq_rel) == size - 1) {
            waiting.store(0, std::memory_order_relaxed);
            turn.store(now + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; turn.load(std::memory_order_acquire) == now; ++spins) {
            if (spins > 4000) std::this_thread::yield();
#if defined(HAVE_X86)
            else _mm_pause();
#endif
        }
    }
};

// Sizes of the PixelCNN; width, codes and the queries' and keys' total are padded to multiples of 32 by the caller.
struct Shape {
    int32_t width, codes, layers, heads, key, outs;
    uint64_t attention;  // bit l: layer l has one

    bool attends(int layer) const { return attention >> layer & 1; }
    int qk() const { return (heads * key + 31) / 32 * 32; }
};

struct Options {
    float temperature, top_p;
    int32_t top_k;
};

// The work of one call: everything belongs to the caller and outlives it.
struct Job {
    int32_t n, h, w, threads;
    const float* cond;  // (n or 1, h * w, layers, 2, 2 * width): its projections for u and ul, with conv 2's bias
    int64_t cond_stride;  // between samples, 0 when they share it
    const float* noise;  // (n, h * w, codes)
    const int64_t* known;  // (n, h * w), -1 where a code is to be drawn
    int64_t* codes;  // (n, h * w), the known ones filled in
    float* log_likelihood;  // (n, h * w), zero
    Options options;
    int32_t alike;  // the samples share `cond` and the known codes
    int32_t last;  // the last position that any sample draws
    int32_t real_codes;  // without padding

    bool unknown(int i, int j) const {
        for (int k = 0; k < n; ++k)
            if (known[static_cast<size_t>(k) * h * w + i * w + j] < 0) return true;
        return false;
    }

    void draw(int sample, int position, const float* logits) const;
};

// Mask out, with -inf, what naive.noisy_logits masks.
void filter(std::vector<float>& scaled, const Options& o) {
    const int count = static_cast<int>(scaled.size());
    if (o.top_k > 0 && o.top_k < count) {
        std::vector<float> sorted = scaled;
        std::nth_element(sorted.begin(), sorted.begin() + o.top_k - 1, sorted.end(), std::greater<float>());
        for (float& x : scaled)
            if (x < sorted[o.top_k - 1]) x = -INFINITY;
    }
    if (o.top_p < 1) {
        std::vector<int> heap(count);
        std::iota(heap.begin(), heap.end(), 0);
        const auto after = [&](int a, int b) { return scaled[a] != scaled[b] ? scaled[a] < scaled[b] : a > b; };
        std::make_heap(heap.begin(), heap.end(), after);
        const float most = scaled[heap.front()];
        double total = 0, sum = 0;
        for (const float x : scaled) total += std::exp(x - most);
        auto end = heap.end();
        while (end != heap.begin() && sum < o.top_p * total) {  // keeps the code that crosses the threshold
            std::pop_heap(heap.begin(), end--, after);
            sum += std::exp(scaled[*end] - most);
        }
        for (auto it = heap.begin(); it != end; ++it) scaled[*it] = -INFINITY;
    }
}

void Job::draw(int sample, int position, const float* logits) const {
    const size_t at = static_cast<size_t>(sample) * h * w + position;
    if (known[at] >= 0) return;
    std::vector<float> scaled(logits, logits + real_codes);
    for (float& x : scaled) x /= options.temperature;
    filter(scaled, options);
    const float* gumbel = noise + at * real_codes;
    for (int k = 0; k < real_codes; ++k) scaled[k] += gumbel[k];
    const int64_t code = std::max_element(scaled.begin(), scaled.end()) - scaled.begin();
    const float most = *std::max_element(logits, logits + real_codes);
    double total = 0;
    for (int k = 0; k < real_codes; ++k) total += std::exp(logits[k] - most);
    codes[at] = code;
    log_likelihood[at] = logits[code] - most - static_cast<float>(std::log(total));
}

struct Run {
    virtual ~Run() = default;
    virtual void row(int i) = 0;
};

struct Plan {
    virtual ~Plan() = default;
    virtual Run* start(const Job& job) = 0;
    virtual void products(int samples, int threads, int positions, int w) = 0;
};

}  // namespace

#define KIND_PORTABLE
namespace portable {
namespace {
#include "vectors.h"
#include "products.h"
#include "network.h"
#include "team.h"
#include "engine.h"
}  // namespace
}  // namespace portable
#undef KIND_PORTABLE

#if defined(HAVE_X86)
#define AVX2 "avx2,fma"
#define AVX512 "avx512f,avx512bw,avx512vl,avx512dq," AVX2
#define PRAGMA(text) _Pragma(#text)
#if defined(__clang__)
#define BEGIN(target_list) PRAGMA(clang attribute push(__attribute__((target(target_list))), apply_to = function))
#define END PRAGMA(clang attribute pop)
#else
#define BEGIN(target_list) PRAGMA(GCC push_options) PRAGMA(GCC target(target_list))
#define END PRAGMA(GCC pop_options)
#endif

#define KIND_AVX2
BEGIN(AVX2)
namespace avx2 {
namespace {
#include "vectors.h"
#include "products.h"
#include "network.h"
#include "team.h"
#include "engine.h"
}  // namespace
}  // namespace avx2
END
#undef KIND_AVX2

#define KIND_AVX512
BEGIN(AVX512)
namespace avx512 {
namespace {
#include "vectors.h"
#include "products.h"
#include "network.h"
#include "team.h"
#include "engine.h"
}  // namespace
}  // namespace avx512
END
#undef KIND_AVX512

#define KIND_AVX512BF16
BEGIN("avx512bf16," AVX512)
namespace avx512bf16 {
namespace {
#include "vectors.h"
#include "products.h"
#include "network.h"
#include "team.h"
#include "engine.h"
}  // namespace
}  // namespace avx512bf16
END
#undef KIND_AVX512BF16
#endif

// The C interface. Functions that can fail return null or false; `manifill_error` then says why.
extern "C" {

static thread_local std::string error;

EXPORT const char* manifill_error() { return error.c_str(); }

// The kinds of processor that this one can run, best last, separated by spaces.
EXPORT const char* manifill_kinds() {
#if defined(HAVE_X86)
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return "portable";
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq"))
        return "portable avx2";
    return __builtin_cpu_supports("avx512bf16") ? "portable avx2 avx512 avx512bf16" : "portable avx2 avx512";
#else
    return "portable";
#endif
}

// Pack a network's weights, `count` floats in the order of manifill/sampling/native.py; null when they do not fit the shape.
EXPORT Plan* manifill_open(const char* kind, const Shape* shape, const float* weights, size_t count) {
    try {
        const std::string name = kind;
#if defined(HAVE_X86)
        if (name == "avx2") return new avx2::Network(*shape, weights, count);
        if (name == "avx512") return new avx512::Network(*shape, weights, count);
        if (name == "avx512bf16") return new avx512bf16::Network(*shape, weights, count);
#endif
        if (name == "portable") return new portable::Network(*shape, weights, count);
        error = "unknown kind of processor: " + name;
    } catch (const std::exception& e) {
        error = e.what();
    }
    return nullptr;
}

EXPORT void manifill_close(Plan* plan) { delete plan; }

// Begin to sample; the job's memory must outlive the run.
EXPORT Run* manifill_start(Plan* plan, const Job* job) {
    try {
        return plan->start(*job);
    } catch (const std::exception& e) {
        error = e.what();
        return nullptr;
    }
}

EXPORT bool manifill_row(Run* run, int32_t i) {
    try {
        run->row(i);
        return true;
    } catch (const std::exception& e) {
        error = e.what();
        return false;
    }
}

EXPORT void manifill_finish(Run* run) { delete run; }

EXPORT void manifill_products(Plan* plan, int32_t samples, int32_t threads, int32_t positions, int32_t w) {
    plan->products(samples, threads, positions, w);
}
}
