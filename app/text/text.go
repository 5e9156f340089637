// Package text is the string catalogue that window, wizard and command line
// share, in English and German. The English sentence is its own key, so code reads as what a person
// sees. It knows nothing of where texts are shown.
package text

import "fmt"

// T returns the text for an English format string, with args filled in as by
// fmt.Sprintf.
func T(format string, args ...any) string { return fmt.Sprintf(translate(format), args...) }

// Size says a number of bytes in binary units, as short as is exact enough for
// a person: "512 MiB", "1.5 GiB".
func Size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	v, u := float64(n), 0
	for v >= 1024 && u < len(units)-1 {
		v, u = v/1024, u+1
	}
	if v == float64(int64(v)) {
		return fmt.Sprintf("%d %s", int64(v), units[u])
	}
	return fmt.Sprintf("%.1f %s", v, units[u])
}
