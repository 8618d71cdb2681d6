// The sampler itself: threads that draw samples. Included by sampler.cpp after network.h, once for each kind of
// processor.
//
// Threads work in teams, a team on its own samples. The members of a team run the same code, each on its share of the
// outputs, and meet at a barrier wherever one reads what another has written.

// What a team keeps of its samples. Rows of activations are (sample, 1 + w + 1, 2m) with a zero column at both ends,
// kept for this row of codes and the one above it.
struct Team {
    const Network& net;
    const Job& job;
    const int first, n, size, m, w, wide;  // samples [first, first + n); members; 2m
    const ptrdiff_t line;  // activations of a sample's row
    int shared;  // samples in work: one, as long as all of them are alike, then n
    Barrier barrier;
    std::vector<std::array<Buffer<E>, 2>> u_in, u_mid, ul_in, ul_mid;
    std::vector<Buffer<float>> upper1, upper2, keys, values;
    Buffer<float> u, above, x, c, q, scores, totals, logits;
    Buffer<E> c_stored, mixed, out_in[2];
    const int padded;  // positions, rounded up to a panel
    const int span;  // floats between two heads' scores, not a power of two: those share too few lines of the cache

    Team(const Network& net, const Job& job, int first, int n, int size)
        : net(net), job(job), first(first), n(n), size(size), m(net.shape.width), w(job.w), wide(2 * m),
          line(static_cast<ptrdiff_t>(w + 2) * wide), shared(job.alike && n > 1 ? 1 : n), barrier(size),
          padded((job.h * job.w + NR - 1) / NR * NR), span(padded + 16) {
        const Shape& s = net.shape;
        const size_t rows = static_cast<size_t>(n) * w;
        for (int l = 0; l <= s.layers; ++l)
            for (auto* buffers : {&u_in, &u_mid, &ul_in, &ul_mid})
                buffers->push_back({Buffer<E>(n * line), Buffer<E>(n * line)});
        for (const Layer& layer : net.layers) {
            upper1.emplace_back(rows * m), upper2.emplace_back(rows * wide);
            const size_t kept = layer.attention ? static_cast<size_t>(n) * padded : 0;
            keys.emplace_back(kept * s.qk()), values.emplace_back(kept * m);
        }
        u = Buffer<float>(rows * m), above = Buffer<float>(rows * m), x = Buffer<float>(rows * m);
        c = Buffer<float>(rows * m), q = Buffer<float>(rows * s.qk());
        scores = Buffer<float>(rows * s.heads * span), totals = Buffer<float>(rows * s.heads);
        logits = Buffer<float>(static_cast<size_t>(n) * s.codes);
        c_stored = Buffer<E>(rows * m), mixed = Buffer<E>(rows * s.heads * m);
        for (auto& b : out_in) b = Buffer<E>(rows * wide);
    }

    struct Member {
        Team& t;
        const int id;

        void meet() const { t.barrier.meet(); }

        // Divide (panels x rows) among the members and call f(panel, first row, count) for tiles of at most MR rows.
        template <class F> void share(int panels, int rows, F f) const {
            const int tall = std::clamp(rows * panels / t.size, 1, MR), chunks = (rows + tall - 1) / tall;
            const int all = panels * chunks;
            for (int i = all * id / t.size; i < all * (id + 1) / t.size; ++i) {
                const int row = i % chunks * tall;
                f(i / chunks, row, std::min(tall, rows - row));
            }
        }

        // Columns [j, j + run) of every sample's line: where row r begins.
        ptrdiff_t at(int r, int j, int run) const {
            return r / run * t.line + static_cast<ptrdiff_t>(j + r % run + 1) * t.wide;
        }

        void store_elu(E* to, const float* v) const {  // one panel of elu(x) and, m further on, elu(-x)
            for (int i = 0; i < NR; i += W) {
                const V x = load(v + i), minus = sub(fill(0.0f), x);
                const V e = sub(exponential(smaller(x, minus)), fill(1.0f));  // exp(-|x|) - 1, at least min(x, -x)
                put(to + i, larger(x, e)), put(to + t.m + i, larger(minus, e));
            }
        }

        // c = product of conv 1's taps -> concat_elu into `to`; `begin(r)` is what the sums start from.
        template <class Start>
        void conv1(const Matrix& weights, const E* const* base, int sources, int j, int run, int rows, Start begin,
                   E* to) const {
            share(t.m / NR, rows, [&](int p, int row, int count) {
                ptrdiff_t offset[MR];
                const float* start[MR];
                float out[MR * NR];
                for (int r = 0; r < count; ++r) offset[r] = at(row + r, j, run), start[r] = begin(row + r) + p * NR;
                product(count, base, sources, t.wide, offset, weights.panel(p), start, out);
                for (int r = 0; r < count; ++r) store_elu(to + offset[r] + p * NR, out + r * NR);
            });
        }

        // The two halves of conv 2's outputs -> a * sigmoid(b), handed on to `then(row, panel, pointer)`.
        template <class Start, class Then>
        void conv2(const Matrix& weights, const E* const* base, int sources, int j, int run, int rows, Start begin,
                   Then then) const {
            share(t.m / NR, rows, [&](int p, int row, int count) {
                ptrdiff_t offset[MR];
                const float *start[MR], *start_b[MR];
                float a[MR * NR], b[MR * NR];
                for (int r = 0; r < count; ++r) {
                    offset[r] = at(row + r, j, run);
                    start[r] = begin(row + r) + p * NR, start_b[r] = start[r] + t.m;
                }
                product(count, base, sources, t.wide, offset, weights.panel(p), start, a);
                product(count, base, sources, t.wide, offset, weights.panel(t.m / NR + p), start_b, b);
                for (int r = 0; r < count; ++r) {
                    for (int i = r * NR; i < (r + 1) * NR; i += W) store(a + i, mul(load(a + i), sigmoid(load(b + i))));
                    then(row + r, p, a + r * NR);
                }
            });
        }

        // Outputs as they are, from rows of `base` that begin `stride` apart.
        template <class Then>
        void plain(const Matrix& weights, const E* base, int k, ptrdiff_t stride, int rows, const float* bias,
                   Then then) const {
            share(weights.n / NR, rows, [&](int p, int row, int count) {
                ptrdiff_t offset[MR];
                const float* start[MR];
                float out[MR * NR];
                for (int r = 0; r < count; ++r) offset[r] = (row + r) * stride, start[r] = bias + p * NR;
                product(count, &base, 1, k, offset, weights.panel(p), start, out);
                for (int r = 0; r < count; ++r) then(row + r, p, out + r * NR);
            });
        }

        const float* cond(int sample, int i, int j, int layer, int stream) const {
            const size_t position = static_cast<size_t>(i) * t.w + j;
            return t.job.cond + (t.first + sample) * t.job.cond_stride +
                   ((position * t.net.shape.layers + layer) * 2 + stream) * t.wide;
        }

        // The code at (i, j), -1 outside the picture.
        int64_t code(int sample, int i, int j) const {
            if (i < 0 || j < 0 || j >= t.w) return -1;
            return t.job.codes[(static_cast<size_t>(t.first + sample) * t.job.h + i) * t.w + j];
        }

        // to += the table rows of the codes at (i + rows, j + columns), the sum of a convolution's taps.
        void taps(float* to, const float* table, int sample, int i, int j, int up, int left, int right) const {
            const size_t m = t.m, one = m * t.net.shape.codes;
            for (int di = -up; di <= 0; ++di)
                for (int dj = -left; dj <= right; ++dj, table += one) {
                    const int64_t k = code(sample, i + di, j + dj);
                    if (k < 0) continue;
                    for (size_t o = 0; o < m; o += W) store(to + o, add(load(to + o), load(table + k * m + o)));
                }
        }

        // Advance `u` to row i through all layers and prepare the upper taps of `ul`: all of a row at once.
        void start_row(int i) const {
            const int rows = t.shared * t.w, now = i & 1, before = now ^ 1, m = t.m, w = t.w;
            for (int r = rows * id / t.size; r < rows * (id + 1) / t.size; ++r) {
                float *u = t.u.get() + static_cast<size_t>(r) * m, *above = t.above.get() + static_cast<size_t>(r) * m;
                const float* bias = t.net.input_bias;
                for (int o = 0; o < m; ++o) u[o] = i ? bias[o] : 0.0f, above[o] = i ? bias[m + o] : 0.0f;
                if (i > 0) taps(u, t.net.table_u, r / w, i - 1, r % w, 1, 1, 1);
                if (i > 0) taps(above, t.net.table_above, r / w, i - 1, r % w, 0, 1, 1);
                for (int p = 0; p < m; p += NR) store_elu(t.u_in[0][now].get() + at(r, 0, w) + p, u + p);
            }
            meet();
            for (int l = 0; l < t.net.shape.layers; ++l) {
                const Layer& layer = t.net.layers[l];
                const auto six = [&](std::array<Buffer<E>, 2>& b) {
                    const E *up = b[before].get(), *here = b[now].get();
                    return std::array<const E*, 6>{up - t.wide, up, up + t.wide, here - t.wide, here, here + t.wide};
                };
                conv1(layer.u1, six(t.u_in[l]).data(), 6, 0, w, rows, [&](int) { return layer.u1_bias; },
                      t.u_mid[l][now].get());
                meet();
                conv2(layer.u2, six(t.u_mid[l]).data(), 6, 0, w, rows,
                      [&](int r) { return cond(r / w, i, r % w, l, 0); },
                      [&](int r, int p, const float* v) {
                          float* u = t.u.get() + static_cast<size_t>(r) * m + p * NR;
                          for (int k = 0; k < NR; k += W) store(u + k, add(load(u + k), load(v + k)));
                          store_elu(t.u_in[l + 1][now].get() + at(r, 0, w) + p * NR, u);
                      });
                meet();
                upper(l, i, rows);
            }
        }

        void upper(int l, int i, int rows) const {
            const int now = i & 1, before = now ^ 1, m = t.m, w = t.w;
            const Layer& layer = t.net.layers[l];
            const E *in = t.ul_in[l][before].get(), *mid = t.ul_mid[l][before].get();
            const E* first[3] = {in - t.wide, in, t.u_in[l + 1][now].get()};
            const E* second[2] = {mid - t.wide, mid};
            share(3 * m / NR, rows, [&](int p, int row, int count) {
                const bool one = p < m / NR;  // conv 1's outputs come first
                const int q = one ? p : p - m / NR;
                ptrdiff_t offset[MR];
                const float* start[MR];
                float out[MR * NR];
                for (int r = 0; r < count; ++r) {
                    offset[r] = at(row + r, 0, w);
                    start[r] = (one ? layer.upper1_bias : cond((row + r) / w, i, (row + r) % w, l, 1)) + q * NR;
                }
                const Matrix& weights = one ? layer.upper1 : layer.upper2;
                product(count, one ? first : second, one ? 3 : 2, t.wide, offset, weights.panel(q), start, out);
                float* to = one ? t.upper1[l].get() : t.upper2[l].get();
                const size_t width = one ? m : t.wide;
                for (int r = 0; r < count; ++r) std::copy_n(out + r * NR, NR, to + (row + r) * width + q * NR);
            });
        }

        // Advance `ul` at columns [j, j + run) of row i through all layers; their codes to the left are known.
        void step(int i, int j, int run) const {
            const int rows = t.shared * run, now = i & 1, m = t.m, w = t.w;
            const auto row = [&](int r) { return static_cast<size_t>(r / run) * w + j + r % run; };  // of a whole line
            for (int r = rows * id / t.size; r < rows * (id + 1) / t.size; ++r) {
                float* x = t.x.get() + static_cast<size_t>(r) * m;
                std::copy_n(t.above.get() + row(r) * m, m, x);
                const int column = j + r % run;
                if (column > 0) {
                    for (int o = 0; o < m; ++o) x[o] += t.net.input_bias[2 * m + o];
                    taps(x, t.net.table_left, r / run, i, column - 1, 1, 0, 0);
                }
                for (int p = 0; p < m; p += NR) store_elu(t.ul_in[0][now].get() + at(r, j, run) + p, x + p);
            }
            meet();
            for (int l = 0; l < t.net.shape.layers; ++l) {
                const Layer& layer = t.net.layers[l];
                const E *in = t.ul_in[l][now].get(), *mid = t.ul_mid[l][now].get();
                const E *first[2] = {in - t.wide, in}, *second[2] = {mid - t.wide, mid};
                conv1(layer.lower1, first, 2, j, run, rows, [&](int r) { return t.upper1[l].get() + row(r) * m; },
                      t.ul_mid[l][now].get());
                meet();
                conv2(layer.lower2, second, 2, j, run, rows, [&](int r) { return t.upper2[l].get() + row(r) * t.wide; },
                      [&](int r, int p, const float* v) {
                          if (layer.attention) return keep(l, i * w + j, run, r, p, v);
                          add_to_x(l, j, run, now, r, p, v, nullptr);
                      });
                meet();
                if (layer.attention) attend(l, i, j, run);
            }
        }

        // x += v (+ more), and its concat_elu where the next layer reads it.
        void add_to_x(int l, int j, int run, int now, int r, int p, const float* v, const float* more) const {
            float* x = t.x.get() + static_cast<size_t>(r) * t.m + p * NR;
            for (int k = 0; k < NR; k += W) {
                const V sum = add(load(x + k), load(v + k));
                store(x + k, more ? add(sum, load(more + k)) : sum);
            }
            store_elu(t.ul_in[l + 1][now].get() + at(r, j, run) + p * NR, x);
        }

        // A gated panel that attention reads: as it is, for products, and among the values: (panel, position, NR).
        void keep(int l, int position, int run, int r, int p, const float* v) const {
            const size_t here = static_cast<size_t>(r) * t.m + p * NR;
            std::copy_n(v, NR, t.c.get() + here);
            for (int k = 0; k < NR; k += W) put(t.c_stored.get() + here + k, load(v + k));
            float* values = t.values[l].get() + (static_cast<size_t>(r / run) * t.m + p * NR) * t.padded;
            std::copy_n(v, NR, values + static_cast<size_t>(position + r % run) * NR);
        }

        // Attention to the positions before, with values that are the layer's own m channels: the projections of the
        // values and of the result are linear, so they come after the mixing, as one matrix of (heads * m) inputs.
        void attend(int l, int i, int j, int run) const {
            const Shape& s = t.net.shape;
            const Layer& layer = t.net.layers[l];
            const int rows = t.shared * run, m = t.m, qk = s.qk(), d = s.key, position = i * t.w + j;
            const size_t kept = static_cast<size_t>(t.padded) * qk;
            plain(layer.qk, t.c_stored.get(), m, m, rows, layer.qk_bias, [&](int r, int p, const float* v) {
                for (int o = 0; o < NR; ++o) {
                    const int k = p * NR + o - qk, at = position + r % run;
                    if (k < 0) t.q[static_cast<size_t>(r) * qk + p * NR + o] = v[o];
                    else if (k < s.heads * d)  // keys: (head, panel of positions, d, NR)
                        t.keys[l][r / run * kept + static_cast<size_t>(k / d) * t.padded * d +
                                  static_cast<size_t>(at / NR * d + k % d) * NR + at % NR] = v[o];
                }
            });
            meet();
            const int pairs = rows * s.heads;
            for (int a = pairs * id / t.size; a < pairs * (id + 1) / t.size; ++a) {
                const int r = a / s.heads, head = a % s.heads;
                softmax(r, head, position + r % run, t.keys[l].get() + r / run * kept);
            }
            meet();
            const int panels = m / NR;
            for (int a = rows * panels * id / t.size; a < rows * panels * (id + 1) / t.size; ++a)
                mix(l, a / panels, a % panels, position + a / panels % run, run);
            meet();
            share(panels, rows, [&](int p, int row, int count) {
                ptrdiff_t offset[MR];
                const float* start[MR];
                float out[MR * NR];
                const E* base = t.mixed.get();
                for (int r = 0; r < count; ++r) {
                    offset[r] = static_cast<ptrdiff_t>(row + r) * s.heads * m;
                    const bool none = position + (row + r) % run == 0;
                    start[r] = (none ? layer.mix_bias_first : layer.mix_bias) + p * NR;
                }
                product(count, &base, 1, s.heads * m, offset, layer.mix.panel(p), start, out);
                for (int r = 0; r < count; ++r)
                    add_to_x(l, j, run, i & 1, row + r, p, t.c.get() + static_cast<size_t>(row + r) * m + p * NR,
                             out + r * NR);
            });
            meet();
        }

        // exp(score - largest) of one head for the `count` positions before; their sum is kept apart.
        void softmax(int r, int head, int count, const float* keys) const {
            const Shape& s = t.net.shape;
            float* scores = t.scores.get() + (static_cast<size_t>(r) * s.heads + head) * t.span;
            const float* q = t.q.get() + static_cast<size_t>(r) * s.qk() + head * s.key;
            const ptrdiff_t zero = 0;
            for (int a = 0; a < count; a += NR)
                tile<float, 1>(&q, 1, s.key, &zero, keys + (static_cast<size_t>(head) * t.padded + a) * s.key, nullptr,
                               scores + a);
            for (int a = count; a % W; ++a) scores[a] = -INFINITY;  // adds exp(-87), which is nothing
            V most = fill(-INFINITY), sum = fill(0.0f);
            for (int a = 0; a < count; a += W) most = larger(most, load(scores + a));
            float parts[W];
            store(parts, most);
            most = fill(*std::max_element(parts, parts + W));
            for (int a = 0; a < count; a += W) {
                const V e = exponential(sub(load(scores + a), most));
                store(scores + a, e), sum = add(sum, e);
            }
            store(parts, sum);
            t.totals[static_cast<size_t>(r) * s.heads + head] = std::accumulate(parts, parts + W, 0.0f);
        }

        // One panel of all heads' mixtures of the values, for row r.
        void mix(int l, int r, int p, int count, int run) const {
            const Shape& s = t.net.shape;
            const size_t first = static_cast<size_t>(r) * s.heads;
            const float* base = t.scores.get() + first * t.span;
            const float* values = t.values[l].get() + (static_cast<size_t>(r / run) * t.m + p * NR) * t.padded;
            for (int head = 0; head < s.heads; head += MR) {
                const int heads = std::min(MR, s.heads - head);
                ptrdiff_t offset[MR];
                float out[MR * NR];
                for (int a = 0; a < heads; ++a) offset[a] = static_cast<ptrdiff_t>(head + a) * t.span;
                product<float>(heads, &base, 1, count, offset, values, nullptr, out);
                for (int a = 0; a < heads; ++a) {
                    const V share = fill(count ? 1 / t.totals[first + head + a] : 0.0f);
                    E* to = t.mixed.get() + (first + head + a) * t.m + p * NR;
                    for (int k = 0; k < NR; k += W) put(to + k, mul(load(out + a * NR + k), share));
                }
            }
        }

        // Output blocks and logits at (i, j), then the draw.
        void draw(int i, int j) const {
            const int m = t.m, outs = t.net.shape.outs, codes = t.net.shape.codes;
            const E* in = t.ul_in[t.net.shape.layers][i & 1].get() + at(0, j, 1);
            ptrdiff_t stride = t.line;
            for (int o = 0; o < outs; ++o) {
                E* to = t.out_in[o & 1].get();
                plain(t.net.outs[o], in, m, stride, t.n, t.net.out_bias[o], [&](int r, int p, const float* v) {
                    float* x = t.x.get() + static_cast<size_t>(r) * m + p * NR;
                    for (int k = 0; k < NR; k += W) store(x + k, add(load(x + k), load(v + k)));
                    store_elu(to + static_cast<size_t>(r) * t.wide + p * NR, x);
                });
                in = to, stride = t.wide;
                meet();
            }
            plain(t.net.outs[outs], in, m, stride, t.n, t.net.out_bias[outs], [&](int r, int p, const float* v) {
                std::copy_n(v, NR, t.logits.get() + static_cast<size_t>(r) * codes + p * NR);
            });
            meet();
            for (int r = t.n * id / t.size; r < t.n * (id + 1) / t.size; ++r)
                t.job.draw(t.first + r, i * t.w + j, t.logits.get() + static_cast<size_t>(r) * codes);
            meet();
        }

        void row(int i) const {
            start_row(i);
            meet();
            for (int j = 0; j < t.w && i * t.w + j <= t.job.last;) {
                const bool unknown = t.job.unknown(i, j);
                int run = 1;
                while (!unknown && j + run < t.w && !t.job.unknown(i, j + run)) ++run;
                if (unknown && t.shared < t.n) {
                    meet();
                    if (id == 0) t.spread();
                    meet();
                }
                step(i, j, run);
                if (unknown) draw(i, j);
                j += run;
            }
        }
    };

    // What the first sample has computed becomes every sample's.
    void spread() {
        const auto copy = [&](auto& buffer) {
            const size_t each = buffer.size() / n;
            for (int k = 1; k < n; ++k) std::copy_n(buffer.get(), each, buffer.get() + k * each);
        };
        for (auto* all : {&u_in, &u_mid, &ul_in, &ul_mid})
            for (auto& two : *all) copy(two[0]), copy(two[1]);
        for (auto* all : {&upper1, &upper2, &keys, &values})
            for (auto& buffer : *all) copy(buffer);
        copy(above);
        shared = n;
    }
};
