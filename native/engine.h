// Teams of threads at work, and the floors that benchmarks compare them with. Included by sampler.cpp after team.h,
// once for each kind of processor.

struct Sampling : Run {
    const Network& net;
    const Job job;
    std::vector<std::unique_ptr<Team>> teams;

    Sampling(const Network& net, const Job& j) : net(net), job(j) {
        const int groups = std::gcd(job.n, job.threads);
        const int members = std::clamp(job.threads / groups, 1, net.shape.width / NR);
        for (int g = 0; g < groups; ++g)
            teams.push_back(std::make_unique<Team>(net, job, g * (job.n / groups), job.n / groups, members));
    }

    void row(int i) override {
        std::vector<std::thread> threads;
        for (auto& team : teams)
            for (int id = 0; id < team->size; ++id)
                if (&team != &teams[0] || id != 0)
                    threads.emplace_back([&team, id, i] { Team::Member{*team, id}.row(i); });
        Team::Member{*teams[0], 0}.row(i);
        for (auto& thread : threads) thread.join();
    }
};

inline Run* Network::start(const Job& job) { return new Sampling(*this, job); }

// The products that sampling cannot avoid and nothing else, the floors of benchmarks/sampling.py: those of `positions`
// steps one after another, or with `w` > 0 those of the rows of w that hold them.
inline void Network::products(int samples, int threads, int positions, int w) {
    const int groups = std::gcd(samples, threads), members = std::clamp(threads / groups, 1, shape.width / NR);
    const int n = samples / groups, rows = w ? n * w : n, widest = std::max(12, shape.heads) * shape.width;
    const auto work = [&](int member) {
        Buffer<E> x(static_cast<size_t>(rows) * widest);
        float out[MR * NR];
        ptrdiff_t offset[MR];
        const E* base = x.get();
        for (int r = 0; r < MR; ++r) offset[r] = static_cast<ptrdiff_t>(std::min(r, rows - 1)) * widest;
        const auto multiply = [&](const Matrix& matrix) {
            const int panels = matrix.n / NR;
            for (int p = panels * member / members; p < panels * (member + 1) / members; ++p)
                for (int r = 0; r < rows; r += MR)
                    product<E>(std::min(MR, rows - r), &base, 1, matrix.k, offset, matrix.panel(p), nullptr, out);
        };
        for (int i = 0; i < (w ? positions / w : positions); ++i) {
            for (const Layer& layer : layers) {
                if (w) {
                    for (const Matrix* one : {&layer.u1, &layer.u2, &layer.upper1, &layer.upper2}) multiply(*one);
                    continue;
                }
                multiply(layer.lower1), multiply(layer.lower2);
                if (layer.attention) multiply(layer.qk), multiply(layer.mix);
            }
            for (const Matrix& matrix : outs)
                if (!w) multiply(matrix);
        }
    };
    std::vector<std::thread> all;
    for (int k = 1; k < groups * members; ++k) all.emplace_back([&work, k, members] { work(k % members); });
    work(0);
    for (auto& thread : all) thread.join();
}
