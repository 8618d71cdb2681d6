// The network's weights, packed. Included by sampler.cpp after products.h, once for each kind of processor.

struct Layer {
    Matrix u1, u2, upper1, upper2, lower1, lower2, qk, mix;
    const float *u1_bias, *upper1_bias, *qk_bias, *mix_bias, *mix_bias_first;
    bool attention;
};

struct Network : Plan {
    Shape shape;
    Buffer<float> weights;  // the caller's, copied: biases and tables are read where they lie
    Buffer<E> matrices;
    const float *table_u, *table_above, *table_left, *input_bias;  // (6, K, m), (3, K, m), (2, K, m), (3, m)
    std::vector<Layer> layers;
    std::vector<Matrix> outs;
    std::vector<const float*> out_bias;

    Network(const Shape& s, const float* flat, size_t count) : shape(s), weights(count), matrices(count) {
        std::copy(flat, flat + count, weights.get());
        if (s.layers > 64) throw std::runtime_error("more than 64 layers");
        const float* at = weights.get();
        const auto take = [&](size_t n) {
            if (n > static_cast<size_t>(weights.get() + count - at)) throw std::runtime_error("too few weights");
            at += n;
            return at - n;
        };
        E* room = matrices.get();
        const auto matrix = [&](int k, int n) {
            E* here = room;
            room += static_cast<size_t>(k) * n;
            return pack(take(static_cast<size_t>(k) * n), k, n, here);
        };
        const size_t m = s.width, table = m * s.codes;
        table_u = take(6 * table), table_above = take(3 * table), table_left = take(2 * table);
        input_bias = take(3 * m);
        for (int l = 0; l < s.layers; ++l) {
            Layer x{};
            x.u1 = matrix(12 * m, m), x.u1_bias = take(m), x.u2 = matrix(12 * m, 2 * m);
            x.upper1 = matrix(6 * m, m), x.upper1_bias = take(m), x.lower1 = matrix(4 * m, m);
            x.upper2 = matrix(4 * m, 2 * m), x.lower2 = matrix(4 * m, 2 * m);
            if ((x.attention = s.attends(l))) {
                x.qk = matrix(m, 2 * s.qk()), x.qk_bias = take(2 * s.qk());
                x.mix = matrix(s.heads * m, m), x.mix_bias = take(m), x.mix_bias_first = take(m);
            }
            layers.push_back(std::move(x));
        }
        for (int o = 0; o < s.outs; ++o) outs.push_back(matrix(m, m)), out_bias.push_back(take(m));
        outs.push_back(matrix(m, s.codes)), out_bias.push_back(take(s.codes));
        if (at != weights.get() + count) throw std::runtime_error("too many weights");
    }

    Run* start(const Job& job) override;
    void products(int samples, int threads, int positions, int w) override;
};
