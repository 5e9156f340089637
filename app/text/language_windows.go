package text

import "syscall"

// Languages, as winnt.h numbers them: a language, and what is spoken where above it.
const (
	languageMask   = 1<<10 - 1
	languageGerman = 7
)

// systemLanguage is that of Windows' own windows, if we have it.
func systemLanguage() string {
	ask := syscall.NewLazyDLL("kernel32.dll").NewProc("GetUserDefaultUILanguage") // a DLL that every program has
	if ask.Find() != nil {
		return ""
	}
	if id, _, _ := ask.Call(); id&languageMask == languageGerman {
		return "de"
	}
	return ""
}
