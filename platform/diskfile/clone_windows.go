package diskfile

import "errors"

// Clone makes a copy that shares its room with src; here it never can.
func Clone(src, dst string) error { return errors.ErrUnsupported }
