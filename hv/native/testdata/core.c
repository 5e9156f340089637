/*
 * Prints the sizes and offsets of what a core file's notes hold, in the eyes of a
 * C compiler (glibc's headers), without running anything:
 *
 *	gcc -m64 -S -o - core.c | sed -n 's/^->//p' > core.txt
 */
#include <stddef.h>
#include <sys/procfs.h>
#include <sys/user.h>

#define S(s) asm volatile("\n->" #s " %c0" : : "i"(sizeof(struct s)))
#define F(s, f) asm volatile("\n->" #s "." #f " %c0" : : "i"(offsetof(struct s, f)))

void layout(void)
{
	S(elf_prstatus); F(elf_prstatus, pr_info); F(elf_prstatus, pr_cursig); F(elf_prstatus, pr_sigpend); F(elf_prstatus, pr_sighold);
	F(elf_prstatus, pr_pid); F(elf_prstatus, pr_reg); F(elf_prstatus, pr_fpvalid);
	S(user_regs_struct); F(user_regs_struct, r15); F(user_regs_struct, r14); F(user_regs_struct, r13); F(user_regs_struct, r12);
	F(user_regs_struct, rbp); F(user_regs_struct, rbx); F(user_regs_struct, r11); F(user_regs_struct, r10); F(user_regs_struct, r9);
	F(user_regs_struct, r8); F(user_regs_struct, rax); F(user_regs_struct, rcx); F(user_regs_struct, rdx); F(user_regs_struct, rsi);
	F(user_regs_struct, rdi); F(user_regs_struct, orig_rax); F(user_regs_struct, rip); F(user_regs_struct, cs); F(user_regs_struct, eflags);
	F(user_regs_struct, rsp); F(user_regs_struct, ss); F(user_regs_struct, fs_base); F(user_regs_struct, gs_base);
	F(user_regs_struct, ds); F(user_regs_struct, es); F(user_regs_struct, fs); F(user_regs_struct, gs);
}
