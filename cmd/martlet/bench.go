package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/bench"
	"github.com/martlet-mail/martlet/internal/fault"
)

const benchLong = `Puts load on a mail server, this one or any other, and prints how fast it answers.
Without names all scenarios run that the flags allow:

%s
Every server gets the same bytes, so that figures of two of them can be compared.
Each connection sends its next request when the answer to the last one is there.
The defaults for the ports are those of "martlet try".

Use an account made for this: messages are added to its INBOX, and mailboxes are made
whose names begin with "bench-". Connections are not encrypted.`

const benchExamples = `  martlet bench --user alice@martlet.test --password-stdin < password.txt
  martlet bench lmtp --user alice@martlet.test --connections 50 --duration 20s
  martlet bench select fetch-flags --host mail.example.net --imap 143 --user test --password-stdin
  martlet bench idle-memory --pid $(pidof martlet) --imap 143 --user test --password-stdin`

// benchFlags are the flags of the command as they come.
type benchFlags struct {
	host, imap, lmtp, user, password string
	passwordStdin                    bool
	recipients                       []string
	sizes                            string
	pid                              int
	opt                              bench.Options
}

func newBenchCommand() *cobra.Command {
	var f benchFlags
	var list strings.Builder
	var names []string
	for _, n := range bench.Names() {
		fmt.Fprintf(&list, "  %-20s %s\n", n[0], n[1])
		names = append(names, n[0])
	}
	c := &cobra.Command{
		Use: "bench [SCENARIO]...", Short: "Put load on any mail server and measure it",
		Long: fmt.Sprintf(benchLong, list.String()), Example: benchExamples,
		ValidArgs: names,
		RunE:      func(cmd *cobra.Command, args []string) error { return runBench(cmd, args, f) },
	}
	fl := c.Flags()
	fl.SortFlags = false
	fl.StringVar(&f.host, "host", "127.0.0.1", "host of the server")
	fl.StringVar(&f.imap, "imap", "10143", `IMAP port, or "" for none`)
	fl.StringVar(&f.lmtp, "lmtp", "10024", `LMTP port, or "" for none`)
	fl.StringVar(&f.user, "user", "", "login name")
	fl.StringVar(&f.password, "password", "", "password; other users of this machine may see it")
	fl.BoolVar(&f.passwordStdin, "password-stdin", false, "read the password from the first line of standard input")
	fl.StringArrayVar(&f.recipients, "recipient", nil, "address that LMTP delivers to; may be repeated (default: the login name)")
	fl.IntSliceVar(&f.opt.Connections, "connections", []int{1, 10, 50}, "numbers of connections of lmtp and append")
	fl.DurationVar(&f.opt.Duration, "duration", 5*time.Second, "length of each run of lmtp and append")
	fl.StringVar(&f.sizes, "sizes", string(bench.Small), `messages delivered: "small" (1.4 KB each) or "mix" (13 KB in the mean)`)
	fl.IntVar(&f.opt.Messages, "messages", 100_000, "messages in the large mailbox")
	fl.IntVar(&f.opt.Repeat, "repeat", 5, "times each request on the large mailbox is made")
	fl.IntVar(&f.opt.Idle, "idle", 2_000, "connections of idle-memory")
	fl.IntVar(&f.pid, "pid", 0, "main process of the server, on this machine; idle-memory reads its memory")
	c.MarkFlagsMutuallyExclusive("password", "password-stdin")
	return c
}

func runBench(cmd *cobra.Command, names []string, f benchFlags) error {
	t, err := f.target(cmd.InOrStdin())
	if err != nil {
		return err
	}
	f.opt.Sizes = bench.Sizes(f.sizes)
	if f.opt.Sizes != bench.Small && f.opt.Sizes != bench.Mixed {
		return misused("bench: --sizes is %s or %s", bench.Small, bench.Mixed)
	}
	if slices.ContainsFunc(f.opt.Connections, func(n int) bool { return n < 1 }) ||
		min(f.opt.Messages, f.opt.Repeat, f.opt.Idle, int(f.opt.Duration)) < 1 {
		return misused("bench: numbers and times must be above zero")
	}
	bar := newBenchBar(cmd.ErrOrStderr())
	f.opt.Progress = bar.show
	var results []bench.Result
	err = bench.Run(cmd.Context(), t, f.opt, names, func(r bench.Result) {
		results = append(results, r)
		if wantsJSON(cmd) {
			printJSON(cmd.OutOrStdout(), r)
		}
	})
	bar.clear()
	if len(results) > 0 && !wantsJSON(cmd) {
		if err := bench.Table(cmd.OutOrStdout(), results); err != nil {
			return err
		}
	}
	if fault.Is(err, fault.Invalid) {
		return misused("bench: %s", fault.Say(err))
	}
	return err
}

// target returns the server that the flags mean.
func (f benchFlags) target(in io.Reader) (bench.Target, error) {
	if f.passwordStdin {
		line, err := bufio.NewReader(io.LimitReader(in, 1024)).ReadString('\n')
		if err != nil && err != io.EOF {
			return bench.Target{}, err
		}
		f.password = strings.TrimRight(line, "\r\n")
	}
	if f.password == "" {
		f.password = os.Getenv("MARTLET_BENCH_PASSWORD")
	}
	t := bench.Target{User: f.user, Password: f.password, Recipients: f.recipients, PID: f.pid}
	if f.user == "" && len(f.recipients) == 0 {
		return t, misused("bench: whose mail? give --user, or --recipient for lmtp alone")
	}
	for _, p := range []struct {
		flag, port string
		addr       *string
	}{{"imap", f.imap, &t.IMAP}, {"lmtp", f.lmtp, &t.LMTP}} {
		if p.port == "" {
			continue
		}
		if n, err := strconv.Atoi(p.port); err != nil || n < 1 || n > 65535 {
			return t, misused("bench: --%s takes a port number, not %q", p.flag, p.port)
		}
		*p.addr = net.JoinHostPort(f.host, p.port)
	}
	return t, nil
}
