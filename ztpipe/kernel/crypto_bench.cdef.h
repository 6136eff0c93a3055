/* Timing (crypto_bench.h). */
double zt_bench_crypto(const struct zt_crypto_impl *impl, const char *what, size_t n, uint32_t rounds);
double zt_bench_csum(const struct zt_csum_impl *impl, const char *what, size_t n, uint32_t rounds);
