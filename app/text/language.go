package text

import (
	"embed"
	"encoding/json"
	"os"
	"strings"
	"sync"
)

// Pseudo is the language in which every text that went through T stands in
// brackets: whatever a window shows without them was forgotten.
const Pseudo = "pseudo"

//go:embed *.json
var files embed.FS

var language struct {
	once  sync.Once
	mu    sync.RWMutex
	name  string            // guarded by mu; empty: English
	texts map[string]string // guarded by mu; English to this language
}

// Use shows texts in a language, "de" or "de_AT.UTF-8", from now on. One that is
// not there is English. Without it the environment decides at the first text.
func Use(name string) {
	language.once.Do(func() {})
	use(name)
}

func use(name string) {
	name, _, _ = strings.Cut(name, ".")
	name, _, _ = strings.Cut(name, "_")
	name, _, _ = strings.Cut(name, "-")
	texts := map[string]string{}
	if b, err := files.ReadFile(name + ".json"); err == nil {
		if err := json.Unmarshal(b, &texts); err != nil {
			panic("text: " + name + ".json: " + err.Error()) // a test reads every one
		}
	}
	language.mu.Lock()
	defer language.mu.Unlock()
	language.name, language.texts = name, texts
}

// fromEnvironment is the language that the user wants: locale(7) says in which
// order the variables count. Where none is set the system may say.
func fromEnvironment() {
	for _, v := range []string{"LC_ALL", "LC_MESSAGES", "LANG"} {
		if s := os.Getenv(v); s != "" {
			use(s)
			return
		}
	}
	if s := systemLanguage(); s != "" {
		use(s)
	}
}

// translate returns the text for an English one; English where there is none.
func translate(english string) string {
	language.once.Do(fromEnvironment)
	language.mu.RLock()
	defer language.mu.RUnlock()
	if language.name == Pseudo {
		return "[" + english + "]"
	}
	if s, ok := language.texts[english]; ok {
		return s
	}
	return english
}
