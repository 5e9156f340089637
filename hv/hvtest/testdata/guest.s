# The tiny guest of the Machine suite: one boot sector, no operating system.
# Built by: as --32 -o guest.o guest.s && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -o guest.bin guest.o
#
# On COM1 it says "READY" and then answers every byte: q powers off (ACPI S5),
# r resets (keyboard controller), c reports a panic (pvpanic), d reads a sector
# with the BIOS and says "D"; w writes it back and says "W"; after a failure of
# the disk either says "E"; t arms the chipset's watchdog and lets it run out.
# Anything else is echoed. The power button powers
# it off. A key of the PS/2 keyboard is told as "K" and two hexadecimal digits.
.code16
.globl _start
_start:
	ljmp $0, $1f
1:	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov $0x7c00, %sp
	mov %dl, drive
	mov $msg, %si
2:	lodsb
	test %al, %al
	jz 3f
	push %ax
	mov $0x0e, %ah			# teletype, so that the screen shows something
	mov $7, %bx
	int $0x10
	pop %ax
	call put
	jmp 2b
3:	cli				# from here on we poll, at each of the BIOS's 18 ticks a second:
	mov $0xfe, %al			# a test has many guests, which shall leave it the processors
	out %al, $0x21
	inc %ax				# 0xff
	out %al, $0xa1
	mov $0x602, %dx			# PM1_EN: power button
	mov $0x100, %ax
	out %ax, %dx
loop:	mov $0x600, %dx			# PM1_STS
	in %dx, %ax
	test $0x100, %ax
	jnz off
	in $0x64, %al
	test $1, %al
	jnz key
	mov $0x3fd, %dx			# LSR: data ready
	in %dx, %al
	test $1, %al
	jz idle
	mov $0x3f8, %dx
	in %dx, %al
	cmp $'q', %al
	je off
	cmp $'r', %al
	je reset
	cmp $'c', %al
	je crash
	cmp $'t', %al
	je watchdog
	mov $0x02, %ah			# the BIOS's number for reading a sector
	cmp $'d', %al
	je disk
	inc %ah				# and for writing
	cmp $'w', %al
	je disk
	call put
	jmp loop
idle:	sti
	hlt
	cli
	jmp loop
off:	mov $0x604, %dx			# PM1_CNT: SLP_EN, SLP_TYP 0 is S5
	mov $0x2000, %ax
	out %ax, %dx
	jmp loop
reset:	mov $0xfe, %al
	out %al, $0x64
	jmp loop
crash:	mov $0x505, %dx
	mov $1, %al
	out %al, %dx
	jmp loop
watchdog:				# GCS.NO_REBOOT is set, as in real chipsets: drivers clear it
	lgdt gdtr
	mov %cr0, %eax
	inc %ax				# PE
	mov %eax, %cr0
	mov $8, %bx
	mov %bx, %fs			# which keeps its 4 GiB in real mode
	dec %ax
	mov %eax, %cr0
	mov $0xfed1f410, %ebx		# where the BIOS has put the root complex's registers
	andb $0xdf, %fs:(%ebx)
	mov $0x672, %dx			# TCO_TMR: 4 ticks of 0.6 s, twice
	mov $4, %ax
	out %ax, %dx
	mov $0x660, %dx			# TCO_RLD
	out %ax, %dx
	jmp loop
disk:	and $0xdf, %al			# to upper case
	push %ax
	mov $1, %al			# one sector
	mov $0x8000, %bx
	mov $0x0002, %cx
	xor %dh, %dh
	mov drive, %dl
	int $0x13
	pop %ax
	cli
	jnc 4f
	mov $'E', %al
4:	call put
	jmp loop
key:	test $0x20, %al			# the mouse's byte
	in $0x60, %al
	jnz loop
	push %ax
	mov $'K', %al
	call put
	pop %ax
	push %ax
	shr $4, %al
	call hex
	pop %ax
	and $15, %al
	call hex
	jmp loop
hex:	cmp $10, %al
	jb 5f
	add $('a' - '0' - 10), %al
5:	add $'0', %al
put:	push %ax
	mov $0x3fd, %dx			# LSR: transmitter empty
6:	in %dx, %al
	test $0x20, %al
	jz 6b
	pop %ax
	mov $0x3f8, %dx
	out %al, %dx
	ret
msg:	.asciz "READY\r\n"
drive:	.byte 0
gdtr:	.word 15
	.long gdt
gdt:	.quad 0, 0x00cf92000000ffff	# data, 4 GiB
	.org 510
	.word 0xaa55
