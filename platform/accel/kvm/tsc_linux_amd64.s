#include "textflag.h"

// func rdtsc() uint64
// LFENCE keeps the read behind the loads before it (SDM 2B, RDTSC).
TEXT ·rdtsc(SB), NOSPLIT, $0-8
	LFENCE
	RDTSC
	SHLQ $32, DX
	ORQ  DX, AX
	MOVQ AX, ret+0(FP)
	RET
