//go:build !linux

package diskfile

// prompt is nothing where a transfer cannot be asked not to wait.
type prompt struct{}
