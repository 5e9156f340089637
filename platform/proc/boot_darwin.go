package proc

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Boot tells this boot of the host from every other: the time of it.
func Boot() (string, error) {
	tv, err := unix.SysctlTimeval("kern.boottime")
	if err != nil {
		return "", fmt.Errorf("ask when the host was booted: %w", err)
	}
	return fmt.Sprint(tv.Sec), nil
}
