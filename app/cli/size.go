package cli

import (
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/hxen-project/hxen/app/text"
)

// sizeUnits are the letters that a size may end with; all are binary, as in xl.
const sizeUnits = "kmgt"

// parseSize reads a size as people write it: "512M", "2G", "1.5GiB", "20gb",
// "1048576" (bytes).
func parseSize(s string) (int64, error) {
	wrong := func(why string) (int64, error) {
		return 0, errors.New(text.T("size %q: %s; write for example 512M, 2G or 1.5G", s, why))
	}
	lower := strings.ToLower(strings.TrimSpace(s))
	number := strings.TrimRight(lower, "bi"+sizeUnits)
	unit := lower[len(number):]
	factor := 1.0
	switch {
	case unit == "" || unit == "b":
	case strings.Contains(sizeUnits, unit[:1]) && (unit[1:] == "" || unit[1:] == "b" || unit[1:] == "ib"):
		factor = math.Pow(1024, float64(strings.Index(sizeUnits, unit[:1])+1))
	default:
		return wrong(text.T("the unit is not one of B, K, M, G, T"))
	}
	number = strings.TrimSpace(number)
	if number == "" || strings.Trim(number, "0123456789.") != "" {
		return wrong(text.T("it does not begin with a number"))
	}
	v, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return wrong(text.T("it does not begin with a number"))
	}
	if v *= factor; v >= 1<<62 {
		return wrong(text.T("it is too big"))
	}
	if v != math.Trunc(v) {
		return wrong(text.T("it is not a whole number of bytes"))
	}
	return int64(v), nil
}

// sizeFlag is a size as a command-line flag.
type sizeFlag int64

func (f *sizeFlag) String() string {
	if *f == 0 {
		return ""
	}
	return strconv.FormatInt(int64(*f), 10)
}
func (f *sizeFlag) Type() string { return "SIZE" }
func (f *sizeFlag) Set(s string) error {
	n, err := parseSize(s)
	if err != nil {
		return err
	}
	if n == 0 {
		return errors.New(text.T("size %q: it is zero", s))
	}
	*f = sizeFlag(n)
	return nil
}
