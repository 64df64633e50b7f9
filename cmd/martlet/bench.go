package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/martlet-mail/martlet/internal/bench"
	"github.com/martlet-mail/martlet/internal/fault"
)

const benchLong = `Puts load on a mail server, this one or any other, and prints how fast it answers.
Without names all scenarios run that the flags allow, but those with a star:

%s
Every server gets the same bytes, so that figures of two of them can be compared.
Each connection sends its next request when the answer to the last one is there.
The defaults for the ports are those of "martlet try".

Requests on the large mailbox are first made "cold", directly after a restart, if
--restart gives a command for it, and then "warm", again and again. The command is
run by sh and returns when the new server has been started; if the last line that it
prints is a number, that is the new process id. (--pid-file does the same.) If --stop
gives a command that ends the server, --restart only has to start it.

With --pid the processor time of the server (user and system, of the process and all
that descend from it) and its memory (PSS) are printed as well.

Mail comes in three kinds: "small" (1.4 KB each), "mix" (2 KB to 400 KB, 13 KB
in the mean) and "corpus" (ordinary mail: newsletters, notices, letters with quotes, one
message in ten with a file; 60 KB in the mean).

Use an account made for this: messages are added to its INBOX, and mailboxes are made
whose names begin with "bench-". With --json, each result is one line; the names of its
fields stay. Progress goes to standard error: a bar on a terminal, lines of JSON
elsewhere.`

const benchExamples = `  martlet bench --user alice@martlet.test --password-stdin < password.txt
  martlet bench select first-page --host mail.example.net --imap 993 --tls implicit --user test --password-stdin
  martlet bench fetch-flags store --messages 1000000 --pid-file /run/server.pid --restart 'systemctl restart server' --user test
  martlet bench grow disk --grow-bytes 10GB --sizes mix --data /var/lib/server --recipient 'user{0..99}@example.org' --user test --json`

// benchFlags are the flags of the command as they come.
type benchFlags struct {
	host, imap, lmtp, smtp string
	user, password         string
	passwordStdin          bool
	recipients             []string
	sender                 string
	tls, ca                string
	insecure               bool
	sizes                  string
	pid                    int
	pidFile, restart, stop string
	data                   string
	diskBytes, growBytes   string
	opt                    bench.Options
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
	c.Flags().SortFlags = false
	f.addTarget(c)
	f.addAmounts(c)
	return c
}

// addTarget adds the flags that say which server.
func (f *benchFlags) addTarget(c *cobra.Command) {
	fl := c.Flags()
	fl.StringVar(&f.host, "host", "127.0.0.1", "host of the server")
	fl.StringVar(&f.imap, "imap", "10143", `IMAP port, or "" for none`)
	fl.StringVar(&f.lmtp, "lmtp", "10024", `LMTP port, or "" for none`)
	fl.StringVar(&f.smtp, "smtp", "", "SMTP port that takes mail without a login (default none)")
	fl.StringVar(&f.user, "user", "", "login name")
	fl.StringVar(&f.password, "password", "", "password; other users of this machine may see it")
	fl.BoolVar(&f.passwordStdin, "password-stdin", false, "read the password from the first line of standard input")
	fl.StringArrayVar(&f.recipients, "recipient", nil, "address that LMTP and SMTP deliver to; may be repeated, and {0..99} in it stands for each number (default: the login name)")
	fl.StringVar(&f.sender, "sender", "sender@example.org", "sender of deliveries")
	fl.StringVar(&f.tls, "tls", "", `"starttls" or "implicit" for all protocols, or for each, as "imap=implicit,smtp=starttls"`)
	fl.StringVar(&f.ca, "ca", "", "file with the certificates, in PEM, that the server's is checked against (default: the system's)")
	fl.BoolVar(&f.insecure, "insecure", false, "take any certificate")
	fl.IntVar(&f.pid, "pid", 0, "main process of the server, on this machine")
	fl.StringVar(&f.pidFile, "pid-file", "", "file with the number of the main process, read again after each restart")
	fl.StringVar(&f.restart, "restart", "", "command that restarts the server")
	fl.StringVar(&f.stop, "stop", "", "command that ends the server, run before that of --restart")
	fl.StringVar(&f.data, "data", "", "folder that holds the server's mail, on this machine; for disk")
	c.MarkFlagsMutuallyExclusive("password", "password-stdin")
	c.MarkFlagsMutuallyExclusive("pid", "pid-file")
	c.MarkFlagsMutuallyExclusive("ca", "insecure")
}

// addAmounts adds the flags that say how much.
func (f *benchFlags) addAmounts(c *cobra.Command) {
	fl := c.Flags()
	fl.IntSliceVar(&f.opt.Connections, "connections", []int{1, 10, 50}, "numbers of connections of lmtp, smtp, append and handshake")
	fl.DurationVar(&f.opt.Duration, "duration", 5*time.Second, "length of each run of these")
	fl.StringVar(&f.sizes, "sizes", string(bench.Small), `messages delivered: "small", "mix" or "corpus"`)
	fl.IntVar(&f.opt.Messages, "messages", 100_000, "messages in the large mailbox")
	fl.IntVar(&f.opt.Repeat, "repeat", 5, "times each request on the large mailbox is made, quick ones ten times as often")
	fl.IntVar(&f.opt.Colds, "colds", 1, "times each is made after a restart, if there is --restart")
	fl.IntVar(&f.opt.Idle, "idle", 2_000, "connections of idle-memory")
	fl.IntVar(&f.opt.IdleCPU, "idle-cpu", 10_000, "connections of idle-cpu")
	fl.DurationVar(&f.opt.Watch, "watch", 10*time.Second, "how long idle-cpu looks on")
	fl.IntVar(&f.opt.Opened, "opened", 50, "sessions of open-memory")
	fl.IntVar(&f.opt.Listeners, "listeners", 10, "sessions in IDLE of announce")
	fl.StringSliceVar(&f.opt.Disk, "disk", []string{"small", "mix", "corpus", "shared"}, `kinds of mail of disk; "shared" is corpus with 100 recipients for each message`)
	fl.StringVar(&f.diskBytes, "disk-bytes", "200MB", "mail that disk puts in of mix and of corpus; of small it is --messages")
	fl.StringVar(&f.growBytes, "grow-bytes", "1GB", "mail that grow delivers")
	fl.IntVar(&f.opt.GrowMessages, "grow-messages", 0, "messages after which grow ends, if that is earlier (default no limit)")
	fl.DurationVar(&f.opt.Interval, "interval", time.Second, "of the rates that grow prints")
	fl.StringVar(&f.opt.Run, "run", "", "part of all Message-IDs; the same for two servers gives them the same bytes (default: from the clock)")
}

func runBench(cmd *cobra.Command, names []string, f benchFlags) error {
	t, err := f.target(cmd.InOrStdin())
	if err == nil {
		err = f.amounts()
	}
	if err != nil {
		return err
	}
	if f.restart != "" {
		f.opt.Restart = f.restarter()
	}
	if f.stop != "" {
		f.opt.Stop = f.stopper()
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
		return misused("bench: %s", describe(err))
	}
	return err
}
