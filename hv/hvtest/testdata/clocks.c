// Prints the processor's time-stamp counter and the date at that instant, in ns since
// 1970: of many pairs the one that was read the quickest.

#include <stdio.h>
#include <time.h>
#include <x86intrin.h>

int main(void)
{
	unsigned long long least = -1, tsc = 0, date = 0;

	for (int i = 0; i < 2000; i++) {
		struct timespec now;
		unsigned long long before = __rdtsc();
		clock_gettime(CLOCK_REALTIME, &now);
		unsigned long long took = __rdtsc() - before;
		if (took < least) {
			least = took;
			tsc = before + took / 2;
			date = now.tv_sec * 1000000000ULL + now.tv_nsec;
		}
	}
	printf("%llu %llu\n", tsc, date);
	return 0;
}
