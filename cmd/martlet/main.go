// Command martlet is the whole mail server in one binary: the server itself, a
// try-out server that asks nothing, and the commands that administer both.
//
// This package is the only one that names engines and puts the house together
// (wire.go). It holds no rule of mail and no record: commands speak to the admin
// handler, over its socket while a server runs and in-process while none does.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signalled(context.Background())
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run executes one command line and returns its exit code.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errOut)
	cmd, err := root.ExecuteContextC(ctx)
	return report(errOut, cmd, err)
}

// signalled returns a context that ends at the first SIGINT, SIGTERM or SIGHUP. The
// second one ends the process at once, as a person who presses Ctrl-C twice expects.
func signalled(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		<-signals
		cancel()
		<-signals
		os.Exit(130)
	}()
	return ctx, func() { signal.Stop(signals); cancel() }
}
