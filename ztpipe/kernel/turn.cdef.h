/* Turns of a worker's stages (turn.h). */
struct zt_turn {
    struct zt_tap *tap;
    struct zt_crypto *crypto;
    struct zt_udp *udp;
};
uint32_t zt_turns(const struct zt_turn *t, struct zt_pace *p, int budget);
int zt_stop_at_sigterm(int bell);
