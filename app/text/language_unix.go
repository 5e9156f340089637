//go:build unix

package text

// systemLanguage: the environment says it all.
func systemLanguage() string { return "" }
