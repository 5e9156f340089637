package hvtest

import (
	"fmt"
	"os"
	"sync/atomic"
	"testing"
)

const socketName = ".sock"

var pipes atomic.Int64

func runDir(testing.TB) string {
	return fmt.Sprintf(`\\.\pipe\hxen-test-%d-%d`, os.Getpid(), pipes.Add(1))
}
