/* ---- giving up privileges ---- */
int zt_capabilities_keep(uint64_t keep);
int zt_capabilities_carry(void);
int zt_system_calls_of_a_worker(void);
