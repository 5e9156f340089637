package confine

import (
	"context"
	"net"
	"os"
)

type pair struct{}

func startPair(func(*os.File) error) (*pair, error) { return nil, ErrNoDialer }

func (*pair) ask(context.Context, byte, string) (*os.File, error) { return nil, ErrNoDialer }

func (*pair) Close() error { return nil }

func asConn(*os.File) (net.Conn, error) { return nil, ErrNoDialer }

func servePair(*os.File, Doors) error { return ErrNoDialer }
