package bench

import (
	"context"
	"crypto/tls"
	"strconv"
	"time"
)

// Target is the server under load. Ports that no scenario needs may be empty.
type Target struct {
	IMAP       string   // host:port
	LMTP       string   // host:port
	SMTP       string   // host:port, a port that takes mail without a login, as 25
	User       string   // IMAP login name
	Password   string   // IMAP password
	Users      []Login  // accounts that the sessions of mix log in to, in turn; empty means User
	Recipients []string // addresses that LMTP and SMTP deliver to in turn; empty means User
	Sender     string   // of deliveries; sender@example.org
	TLS        TLS      // none
	PID        int      // server's main process on this machine, 0 if unknown
	Data       string   // folder on this machine that holds the mail, "" if unknown
}

// Login is what opens one account.
type Login struct{ User, Password string }

// Security says how a connection gets its TLS.
type Security string

const (
	Plain    Security = ""
	StartTLS Security = "starttls"
	Implicit Security = "implicit" // from the first byte
)

// TLS says which protocols are spoken over TLS.
type TLS struct {
	IMAP, LMTP, SMTP Security
	Config           *tls.Config // nil: the system's roots and the name of the host
}

// Options say how much is done. Zero values mean the defaults given here.
type Options struct {
	Connections []int         // of the delivery scenarios; 1, 10, 50
	Duration    time.Duration // of each delivery run; 5 s
	Messages    int           // in the large mailbox; 100,000
	Repeat      int           // times each request on the large mailbox is made warm, quick ones ten times as often; 5
	Idle        int           // connections of idle-memory; 2,000
	IdleCPU     int           // connections of idle-cpu; 10,000
	Watch       time.Duration // how long idle-cpu looks on; 10 s
	Settle      time.Duration // time a server is given before its memory is read; 2 s
	Opened      int           // sessions of open-memory that have the large mailbox selected; 50
	Listeners   int           // sessions in IDLE of announce, beside the run with one; 10
	Sizes       Sizes         // of delivered messages; Small

	Disk         []string      // what disk measures; "small", "mix", "corpus", "shared"
	DiskBytes    int64         // of mail put in by "mix" and "corpus" of disk; 200,000,000
	GrowBytes    int64         // of mail after which grow ends; 1,000,000,000
	GrowMessages int           // messages after which grow ends, if that is earlier; no limit
	Interval     time.Duration // of the rates that grow reports; 1 s

	// Run tells the Message-IDs of one run from those of another. Two servers that are
	// given the same get the same bytes; one server must not get it twice, since some
	// drop what they have seen. Empty means a new one from the clock.
	Run string

	// Restart, if set, restarts the server and returns its new process id, or 0 if it
	// is not known. Requests on the large mailbox are then also made Colds (1) times
	// directly after a restart.
	Restart func(ctx context.Context) (pid int, err error)
	Colds   int

	// Stop, if set, ends the server before Restart, which then only has to start it: the
	// scenario restart tells the two apart.
	Stop func(ctx context.Context) error

	// Progress, if set, is told what is going on, how much of it is done, and how much
	// there is. It is called from one goroutine at a time.
	Progress func(what string, done, total int)

	calm time.Duration // without change, after which the disk is thought to be at rest; 5 s
}

func (o Options) withDefaults() Options {
	if len(o.Connections) == 0 {
		o.Connections = []int{1, 10, 50}
	}
	preset(&o.Duration, 5*time.Second)
	preset(&o.Messages, 100_000)
	preset(&o.Repeat, 5)
	preset(&o.Idle, 2_000)
	preset(&o.IdleCPU, 10_000)
	preset(&o.Watch, 10*time.Second)
	preset(&o.Settle, 2*time.Second)
	preset(&o.Opened, 50)
	preset(&o.Listeners, 10)
	preset(&o.DiskBytes, 200_000_000)
	preset(&o.GrowBytes, 1_000_000_000)
	preset(&o.Interval, time.Second)
	preset(&o.Colds, 1)
	preset(&o.calm, 5*time.Second)
	if o.Sizes == "" {
		o.Sizes = Small
	}
	if len(o.Disk) == 0 {
		o.Disk = []string{string(Small), string(Mixed), string(Corpus), shared}
	}
	if o.Run == "" {
		o.Run = strconv.FormatInt(time.Now().UnixNano(), 36)
	}
	if o.Progress == nil {
		o.Progress = func(string, int, int) {}
	}
	return o
}

// preset gives v a value if it has none.
func preset[T ~int | ~int64](v *T, value T) {
	if *v <= 0 {
		*v = value
	}
}
