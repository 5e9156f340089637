package main

import "github.com/hxen-project/hxen/installer/steps"

// window: this build has none.
func window(*steps.Setup, []string) (code int, shown bool) { return 0, false }
