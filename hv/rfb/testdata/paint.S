# A guest in one boot sector that draws on demand: 1280x800, 32 bits, no BIOS
# calls once it runs. Needs QEMU's -device VGA,addr=02.0.
#   F  paints the whole screen again and again, a gradient that moves
#   S  the same with 64x64 pixels at the top left
#   D  waits for 10 ms, as a guest that has something to do, then as any other:
#   any other key: stops that and turns the 64x64 pixels at the top left into
#   the next of two colours
# Made by:
#   as --32 -o paint.o paint.S && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o paint.bin paint.o
	.code16
	.globl _start
_start:
	cli
	xor	%ax, %ax
	mov	%ax, %ds
	lgdtl	gdtr
	mov	%cr0, %eax
	or	$1, %al
	mov	%eax, %cr0
	ljmpl	$8, $main32

	.code32
main32:
	mov	$16, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %ss
	mov	$0x7c00, %esp
	mov	$modes, %esi		# Bochs display interface: index, value pairs
	mov	$5, %ecx
1:	lodsw
	mov	$0x1ce, %dx
	out	%ax, %dx
	lodsw
	inc	%dx
	out	%ax, %dx
	loop	1b
	mov	$0xcf8, %dx		# linear framebuffer: BAR 0 of PCI 0:2.0
	mov	$0x80001010, %eax
	out	%eax, %dx
	mov	$0xfc, %dl
	in	%dx, %eax
	and	$0xfffffff0, %eax
	mov	%eax, %ebp
	xor	%ebx, %ebx		# what to paint again and again
	xor	%esi, %esi		# where the gradient starts
	mov	$0x2040ff, %eax		# a still picture to begin with
	call	block
poll:
	in	$0x64, %al
	test	$1, %al
	jz	paint
	test	$0x20, %al		# the mouse's byte: drop it
	in	$0x60, %al		# (in changes no flags)
	jnz	paint
	test	$0x80, %al		# a release
	jnz	paint
	cmp	$0xe0, %al
	je	paint
	cmp	$0x20, %al		# D: the time stamp counter of TCG counts nanoseconds
	jne	4f
	rdtsc
	mov	%eax, %ecx
5:	rdtsc
	sub	%ecx, %eax
	cmp	$10000000, %eax
	jb	5b
	jmp	6f
4:
	mov	$1, %ebx
	cmp	$0x21, %al		# F
	je	paint
	inc	%ebx
	cmp	$0x1f, %al		# S
	je	paint
6:	xor	%ebx, %ebx
	xorl	$0xdfbf00, blockcolour
	mov	blockcolour, %eax
	call	block
paint:
	test	%ebx, %ebx
	jz	poll
	add	$0x050301, %esi
	mov	%esi, %eax
	cmp	$2, %ebx
	je	small
	mov	%ebp, %edi
	mov	$1280*800, %ecx
2:	mov	%eax, (%edi)
	add	$0x000102, %eax
	add	$4, %edi
	loop	2b
	jmp	poll
small:
	call	block
	jmp	poll

block:					# 64x64 pixels of colour eax
	mov	%ebp, %edi
	mov	$64, %edx
3:	mov	$64, %ecx
	rep stosl
	add	$(1280-64)*4, %edi
	dec	%edx
	jnz	3b
	ret

blockcolour:
	.long	0x2040ff
modes:
	.word	4, 0, 1, 1280, 2, 800, 3, 32
	.word	4, 0x41
	.align	8
gdt:
	.quad	0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdtr:
	.word	23
	.long	gdt
	.org	510
	.word	0xaa55
