package main

import "github.com/hxen-project/hxen/installer/steps"

// window: this build has none.
func window(*steps.Setup, []string) (code int, shown bool) { return 0, false }

// attachConsole has nothing to do: a terminal is there or is not.
func attachConsole() {}

// ownConsole has nothing to do either.
func ownConsole() {}
