// World keeps a small internet running, to be looked at and tried: DNS with signatures,
// Martlet, Postfix, Exim, OpenSMTPD and an attacker, each on a host of its own
// (docs/world.md).
//
//	sudo go run ./test/world -up
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/martlet-mail/martlet/test/world/lab"
)

func main() {
	up := flag.Bool("up", false, "build the world and keep it until Ctrl-C")
	flag.Parse()
	if !*up || flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	if err := keep(); err != nil {
		fmt.Fprintln(os.Stderr, "world:", err)
		os.Exit(1)
	}
}

func keep() error {
	if err := lab.Unable(); err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	town, err := lab.NewTown()
	if err != nil {
		return err
	}
	defer town.Close()
	town.Describe(os.Stdout)
	m := town.Martlet
	fmt.Printf("commands of the server: %s %s queue list --config %s\n", m.Enter(), m.Binary, m.Config)
	<-stop
	return nil
}
