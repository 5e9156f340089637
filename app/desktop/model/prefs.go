package model

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Prefs are what the window remembers between runs.
type Prefs struct {
	Width     float32            `json:"width,omitempty"`
	Height    float32            `json:"height,omitempty"`
	Split     float64            `json:"split,omitempty"`     // share of the list, 0..1
	Consoles  map[string]Console `json:"consoles,omitempty"`  // by guest's uuid
	Dismissed string             `json:"dismissed,omitempty"` // text of the host's notice that the user closed
	Folder    string             `json:"folder,omitempty"`    // where a file was chosen last
	Notify    bool               `json:"notify,omitempty"`    // the desktop shows notifications
	Release   string             `json:"release,omitempty"`   // key that gives the keyboard back, by its name in combinations; empty: the usual one

	path string
}

// Console is what is remembered of one console window.
type Console struct {
	Width   float32 `json:"width,omitempty"`
	Height  float32 `json:"height,omitempty"`
	Scaling string  `json:"scaling,omitempty"`
}

// LoadPrefs reads the file; one that is missing or unreadable gives the
// defaults, as nothing in it is worth a question.
func LoadPrefs(path string) *Prefs {
	p := &Prefs{}
	if b, err := os.ReadFile(path); err == nil {
		if json.Unmarshal(b, p) != nil {
			p = &Prefs{}
		}
	}
	p.path = path
	if p.Consoles == nil {
		p.Consoles = map[string]Console{}
	}
	return p
}

// Save writes the file whole. Prefs without a path are not kept.
func (p *Prefs) Save() error {
	if p.path == "" {
		return nil
	}
	b, err := json.MarshalIndent(p, "", "\t")
	if err != nil {
		return fmt.Errorf("write %s: %w", p.path, err)
	}
	if err := os.MkdirAll(filepath.Dir(p.path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make the folder for settings: %w", err)
	}
	tmp := p.path + ".new"
	if err := os.WriteFile(tmp, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	if err := os.Rename(tmp, p.path); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	return nil
}
