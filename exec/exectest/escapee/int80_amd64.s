#include "textflag.h"

// func int80(nr, a, b uint32) int32: a system call by the door of 32-bit programs.
TEXT ·int80(SB), NOSPLIT, $0-20
	MOVL nr+0(FP), AX
	MOVL a+4(FP), BX
	MOVL b+8(FP), CX
	INT  $0x80
	MOVL AX, ret+16(FP)
	RET
