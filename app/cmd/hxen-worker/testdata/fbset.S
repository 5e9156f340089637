/*
 * A guest's program that makes /dev/fb0 640 x 400 pixels, without a library; its
 * status is 0 if the driver did it:
 *
 *	gcc -nostdlib -static -Wl,-N,-z,norelro,--build-id=none -s -o fbset fbset.S && objcopy -R .comment -R .note.gnu.property fbset
 */
	.globl	_start
_start:
	mov	$2, %eax		/* open */
	lea	path(%rip), %rdi
	mov	$2, %esi		/* O_RDWR */
	syscall
	mov	%eax, %ebx
	mov	$0x4600, %esi		/* FBIOGET_VSCREENINFO, linux/fb.h */
	call	ioctl
	lea	-256(%rsp), %rdx
	movl	$640, (%rdx)		/* xres and yres, then the virtual ones */
	movl	$400, 4(%rdx)
	movl	$640, 8(%rdx)
	movl	$400, 12(%rdx)
	mov	$0x4601, %esi		/* FBIOPUT_VSCREENINFO */
	call	ioctl
	mov	%eax, %edi
	mov	$60, %eax		/* exit */
	syscall

ioctl:
	mov	$16, %eax
	mov	%ebx, %edi
	lea	-248(%rsp), %rdx	/* one return address below _start's */
	syscall
	ret

path:	.asciz	"/dev/fb0"
