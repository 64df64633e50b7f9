package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/martlet-mail/martlet/test/world/lab"
)

// built is the world that all tests of this package share; why says why there is none.
var (
	built *lab.Town
	why   string
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if os.Getenv("MARTLET_PEERS") == "" {
			why = "starts real programs; set MARTLET_PEERS=1"
			return m.Run()
		}
		if err := lab.Unable(); err != nil {
			why = "no small internet here: " + err.Error()
			return m.Run()
		}
		var err error
		if built, err = lab.NewTown(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer built.Close()
		return m.Run()
	}())
}

// town returns the world, and shows its logs if the test fails.
func town(t *testing.T) *lab.Town {
	t.Helper()
	if built == nil {
		t.Skip(why)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(built.Logs(40))
		}
	})
	return built
}
