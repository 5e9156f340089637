// Package steps is what the installer can do on this system, built on package
// plan: the steps, the payload they install from, and Setup, which puts them
// together for the wizard, the text mode and the silent mode alike.
package steps
