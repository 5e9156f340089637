# The guest code of the accelerator's cases. It starts with a table of the
# entries' offsets, in the order of the constants in guest.go, which also says
# what lies where in the guest's memory.
# Built by: as --64 -o guest.o guest.s && ld -m elf_x86_64 -Ttext 0x10000 --oformat binary -o guest.bin guest.o
.set DATA, 0x20000	# what guest and host tell each other
.set COUNT, 0xb000	# the started processors
.set CALLS, 0x9000	# the hypercall page
.set HOLE, 0x40000000	# no memory
.set LAPIC, 0xfee00000
.set PORT, 0x1234
.set TELL, 0x98		# a number for the host
.set DONE, 0x99		# the case is over

.macro done
	out %al, $DONE
9:	hlt
	jmp 9b
.endm
.macro entry name
	.quad \name - _start
.endm

.code64
.globl _start
_start:
	entry pio
	entry string
	entry cpuid
	entry msr
	entry gp
	entry halt
	entry spin
	entry call64
	entry call32
	entry lapic
	entry eoi
	entry callback
	entry noeoi
	entry closed
	entry mapped
	entry unbacked
	entry triple
	entry smp
	entry started
	entry tsc
	entry wild
	entry efer
	entry count

pio:	mov $PORT, %edx
	mov $0x11, %al
	out %al, %dx
	mov $0x2222, %ax
	out %ax, %dx
	mov $0x33333333, %eax
	out %eax, %dx
	mov $0x44, %al
	out %al, $0x70
	mov $-1, %rax
	in %dx, %al
	mov %rax, DATA
	mov $-1, %rax
	in %dx, %ax
	mov %rax, DATA+8
	mov $-1, %rax
	in %dx, %eax
	mov %rax, DATA+16
	mov $-1, %rax
	in $0x71, %al
	mov %rax, DATA+24
	done

string:	mov $PORT, %edx
	cld
	mov $DATA, %esi
	mov $5, %ecx
	rep outsb
	mov $DATA, %esi
	mov $4, %ecx
	rep outsw
	mov $DATA, %esi
	mov $3, %ecx
	rep outsl
	std
	mov $DATA+2, %esi
	mov $3, %ecx
	rep outsb
	cld
	mov $DATA+0x100, %edi
	mov $5, %ecx
	rep insb
	mov $DATA+0x110, %edi
	mov $4, %ecx
	rep insw
	mov $DATA+0x120, %edi
	mov $3, %ecx
	rep insl
	done

# Pairs of leaf and subleaf at DATA, to a leaf of -1; answers at DATA+0x100.
cpuid:	mov $DATA, %esi
	mov $DATA+0x100, %edi
1:	mov (%rsi), %eax
	cmp $-1, %eax
	je 2f
	mov 4(%rsi), %ecx
	cpuid
	mov %eax, (%rdi)
	mov %ebx, 4(%rdi)
	mov %ecx, 8(%rdi)
	mov %edx, 12(%rdi)
	add $8, %esi
	add $16, %edi
	jmp 1b
2:	done

# 0x40000000 is the host's to answer, 0x40000001 its to refuse, 0x4b564dfe nobody's.
msr:	mov $0x40000000, %ecx
	rdmsr
	mov %eax, DATA
	mov %edx, DATA+4
	mov $0x55667788, %eax
	mov $0x11223344, %edx
	wrmsr
	mov $0x40000001, %ecx
	rdmsr
	wrmsr
	mov $0x4b564dfe, %ecx
	rdmsr
	done

# #GP: counts, and goes on behind the two bytes of rdmsr and wrmsr.
gp:	incl DATA+0x80
	addq $2, 8(%rsp)
	add $8, %rsp
	iretq

halt:	sti
1:	incl DATA
	hlt
	jmp 1b

spin:	lock incl DATA
	jmp spin

call64:	mov $0x1111111111111111, %rdi
	mov $0x2222222222222222, %rsi
	mov $0x3333333333333333, %rdx
	mov $0x4444444444444444, %r10
	mov $0x5555555555555555, %r8
	mov $0x6666666666666666, %rbx
	mov $CALLS+32*34, %eax
	call *%rax
	mov %rax, DATA
	mov %rdi, DATA+8
	mov %rsi, DATA+16
	mov %rdx, DATA+24
	mov %r10, DATA+32
	mov %r8, DATA+40
	mov %rbx, DATA+48
	mov $CALLS+32*29, %eax
	call *%rax
	mov %rax, DATA+56
	done

.code32
call32:	mov $0x11111111, %ebx
	mov $0x22222222, %ecx
	mov $0x33333333, %edx
	mov $0x44444444, %esi
	mov $0x55555555, %edi
	mov $CALLS+32*34, %eax
	call *%eax
	mov %eax, DATA
	mov %ebx, DATA+8
	mov %edi, DATA+16
	done
.code64

# Switch the LAPIC on (SDM 3A 11.4.7.1), say so and wait for interrupts.
lapic:	mov $LAPIC, %ebx
	movl $0x1ff, 0xf0(%rbx)
	xor %eax, %eax
	out %eax, $TELL
	sti
1:	hlt
	jmp 1b

eoi:	push %rax
	push %rbx
	incl DATA
	mov DATA, %eax
	out %eax, $TELL
	mov $LAPIC, %ebx
	movl $0, 0xb0(%rbx)
	pop %rbx
	pop %rax
	iretq

# As Linux without a PIC does: LAPIC on, LINT0 masked (SDM 3A 11.5.1).
callback:
	mov $LAPIC, %ebx
	movl $0x1ff, 0xf0(%rbx)
	movl $0x10700, 0x350(%rbx)
	xor %eax, %eax
	out %eax, $TELL
	sti
1:	hlt
	jmp 1b

noeoi:	push %rax
	mov DATA+8, %eax
	mov %eax, DATA+12
	incl DATA
	mov DATA, %eax
	out %eax, $TELL
	pop %rax
	iretq

# The host raises at each TELL; interrupts are let in later.
closed:	xor %eax, %eax
	out %eax, $TELL
	out %eax, $TELL
	mov $10000, %ecx
1:	dec %ecx
	jnz 1b
	incl DATA+8
	sti
2:	hlt
	jmp 2b

# Tells what lies in the hole whenever it changes.
mapped:	mov $HOLE, %ebx
	xor %ecx, %ecx
1:	mov (%rbx), %eax
	cmp %ecx, %eax
	je 1b
	mov %eax, %ecx
	out %eax, $TELL
	jmp 1b

unbacked:
	mov $HOLE, %ebx
	xor %eax, %eax
	mov 1(%rbx), %al
	mov %rax, DATA
	xor %eax, %eax
	mov 2(%rbx), %ax
	mov %rax, DATA+8
	mov 4(%rbx), %eax
	mov %rax, DATA+16
	mov 8(%rbx), %rax
	mov %rax, DATA+24
	movb $0, (%rbx)
	movw $0, (%rbx)
	movl $0, (%rbx)
	movq $0, (%rbx)
	mov (%rbx), %rax
	mov %rax, DATA+32
	done

triple:	lidt DATA
	ud2

# Start all other processors (SDM 3A 9.4.4.1) and wait until as many as DATA
# says have counted themselves.
smp:	mov $LAPIC, %ebx
	movl $0x1ff, 0xf0(%rbx)
	movl $0xc4500, 0x300(%rbx)
	movl $0xc460a, 0x300(%rbx)
	mov DATA, %eax
1:	pause
	cmp %eax, COUNT
	jne 1b
	done

.code16
started:
	xor %ax, %ax
	mov %ax, %ds
	lock incl COUNT
	out %al, $DONE
1:	hlt
	jmp 1b
.code64

# Counts at DATA how often the counter ran backwards, and shows it at DATA+8.
tsc:	xor %ebx, %ebx
	mov $2000, %ecx
1:	lfence
	rdtsc
	shl $32, %rdx
	or %rdx, %rax
	cmp %rbx, %rax
	jae 2f
	incl DATA
2:	mov %rax, %rbx
	test $127, %cl
	jnz 3f
	mov %rax, DATA+8
	out %eax, $TELL
3:	dec %ecx
	jnz 1b
	done

wild:	mov $HOLE, %eax
	jmp *%rax

# Flips EFER.SCE, then tries a reserved bit.
efer:	mov $0xc0000080, %ecx
	rdmsr
	xor $1, %eax
	wrmsr
	rdmsr
	mov %eax, DATA
	or $2, %eax
	wrmsr
	done

# Counts in a register, and keeps a copy in another kind of register.
count:	xor %r15d, %r15d
1:	movq %r15, %xmm5
	lea 1(%r15), %eax
	out %eax, $TELL
	movq %xmm5, %rax
	cmp %rax, %r15
	jne 2f
	inc %r15
	jmp 1b
2:	done
