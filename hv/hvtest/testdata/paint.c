/*
 * A guest's program on its screen, /dev/fb0: a square goes where the pointer is clicked
 * and turns green there. r makes the screen 640x400, q ends it. It is started on a virtual
 * terminal, which it takes the screen from meanwhile.
 */
#include <fcntl.h>
#include <linux/fb.h>
#include <linux/input.h>
#include <linux/kd.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { side = 64, ground = 0x283c50, magenta = 0xfa0af0, green = 0x0ae61e };

static int fb;
static struct fb_var_screeninfo mode;
static struct fb_fix_screeninfo fix;
static unsigned *screen;

static void paint(int left, int top, unsigned colour)
{
	for (int y = 0; y < (int)mode.yres; y++)
		for (int x = 0; x < (int)mode.xres; x++)
			screen[y * fix.line_length / 4 + x] = x >= left && x < left + side && y >= top && y < top + side ? colour : ground;
}

static int resize(int width, int height)
{
	mode.xres = mode.xres_virtual = width;
	mode.yres = mode.yres_virtual = height;
	return ioctl(fb, FBIOPUT_VSCREENINFO, &mode) || ioctl(fb, FBIOGET_FSCREENINFO, &fix);
}

int main(void)
{
	fb = open("/dev/fb0", O_RDWR);
	if (ioctl(fb, FBIOGET_VSCREENINFO, &mode) || ioctl(fb, FBIOGET_FSCREENINFO, &fix)) {
		perror("/dev/fb0");
		return 1;
	}
	screen = mmap(0, fix.smem_len, PROT_READ | PROT_WRITE, MAP_SHARED, fb, 0);
	if (screen == MAP_FAILED || ioctl(0, KDSETMODE, KD_GRAPHICS)) {
		perror("take the screen");
		return 1;
	}
	struct pollfd devices[8];
	int n = 0, x = 0, y = 0;
	for (int i = 0; i < 8; i++) {
		char name[32];
		snprintf(name, sizeof name, "/dev/input/event%d", i);
		devices[n] = (struct pollfd){ .fd = open(name, O_RDONLY), .events = POLLIN };
		n += devices[n].fd >= 0;
	}
	paint(600, 300, magenta);
	for (;;) {
		struct input_event e;
		poll(devices, n, -1);
		for (int i = 0; i < n; i++) {
			if (!(devices[i].revents & POLLIN) || read(devices[i].fd, &e, sizeof e) != sizeof e)
				continue;
			if (e.type == EV_ABS && e.code == ABS_X)
				x = e.value * (mode.xres - 1) / 32767;
			else if (e.type == EV_ABS && e.code == ABS_Y)
				y = e.value * (mode.yres - 1) / 32767;
			else if (e.type == EV_KEY && e.value == 1 && e.code == BTN_LEFT)
				paint(x - side / 2, y - side / 2, green);
			else if (e.type == EV_KEY && e.value == 1 && e.code == KEY_R && !resize(640, 400))
				paint(10, 10, magenta);
			else if (e.type == EV_KEY && e.value == 1 && e.code == KEY_Q) {
				resize(1280, 800);
				return ioctl(0, KDSETMODE, KD_TEXT) != 0;
			}
		}
	}
}
