// Package doctor looks at a mail server from all sides and says what keeps mail from coming,
// from arriving elsewhere, or from being trusted, and how to mend it.
//
// The checks are two tables, of the host and of each domain: one small function each, that
// says ok, warn, fail or skipped, why, and the record or command that mends it. A check that
// cannot run is skipped, and no other hears of it. Nothing is changed by looking, but for the
// one message that the loop check sends to itself and takes away again.
//
// What the world is like comes in through Options: names through a resolver, ports through a
// dialer, the machine through functions. So every finding can be made to appear in a test.
//
// RFC 5321, RFC 7208, RFC 6376, RFC 8301, RFC 9989, RFC 8461, RFC 8460, RFC 6698, RFC 7672,
// RFC 8659, RFC 5782, RFC 5905 (the clock), RFC 2142 (postmaster and abuse).
package doctor

import (
	"context"
	"crypto/x509"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/martlet-mail/martlet/internal/fault"
	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/publish"
)

// Status is what a check has found.
type Status string

const (
	OK      Status = "ok"
	Warn    Status = "warn"    // mail flows, but something is worse than it could be
	Fail    Status = "fail"    // mail does not flow, or is refused somewhere
	Skipped Status = "skipped" // it does not apply, or could not be found out
)

// Line is what one check says.
type Line struct {
	Check  string `json:"check"` // a word, and the domain if it is about one
	Status Status `json:"status"`
	Why    string `json:"why"`
	Fix    string `json:"fix"` // the record or command that mends it; "" if nothing is to be mended
}

// Listener is one that this server should have, and where it is reached from this machine.
type Listener struct {
	Protocol string // smtp, submissions, imaps, ...
	Address  string // host:port to dial; "" if there is none
	Implicit bool   // TLS from the first byte
}

// Queue is how the queue stands.
type Queue struct {
	Messages, Held int
	Oldest         time.Duration // age of the oldest message that is not held
	Failing        int           // messages that were tried in vain
	Reason         string        // why the oldest of these waits
}

// Machine is what is known of the machine.
type Machine struct {
	Root        bool   // the server runs as root
	Descriptors uint64 // that it may have; 0: not known
	Connections int    // that it is configured for
	Zone        func() error
	Disk        func() (free, size uint64, err error) // of the data folder, in bytes
	Data        func() (fs.FileMode, error)
	Socket      func(context.Context) error                                      // whether the server answers on its admin socket
	Addresses   func() ([]netip.Addr, error)                                     // of its interfaces
	Synced      func() (synced, known bool)                                      // whether its clock is kept right by another
	Backup      func(context.Context) (age time.Duration, known bool, err error) // of the last one
}

// Options of New. What is nil is not looked at.
type Options struct {
	Site       publish.Site
	Domains    []publish.Domain
	Unread     error // why domains are not known; nil: they are
	Listeners  []Listener
	Resolver   publish.Resolver
	Smarthost  string // host:port that all mail goes out through; "": none
	Updater    *publish.Updater
	Rotate     time.Duration // age at which signing keys should be followed by others; 0: never
	Dial       func(ctx context.Context, network, address string) (net.Conn, error)
	Now        func() time.Time
	Roots      *x509.CertPool                      // of the certificates that clients take; nil: those of the system
	Chain      func() ([]*x509.Certificate, error) // the certificate of the hostname; none: there is none yet
	ACME       bool                                // certificates come from an authority by themselves
	Missing    []string                            // names for which none has come yet
	Healthy    func(context.Context) error         // of the store
	Queue      func(context.Context) (Queue, error)
	Links      func(context.Context) ([]LinkFact, error)
	Exists     func(context.Context, mail.Address) (bool, error)
	Loop       func(ctx context.Context, domain string) error // sends a message through port 25 and takes it out of its mailbox
	Machine    Machine
	Cluster    *Cluster      // of a node among others; nil: this machine is alone
	Warnings   []Line        // of the configuration
	Probe      []string      // domains whose mail hosts are tried, for outgoing port 25
	Signed     []string      // domains that are known to have DNSSEC
	Blocklists []string      // of addresses
	NameLists  []string      // of domains
	NTP        string        // host that tells the time; "": none
	Wait       time.Duration // for one check; 0: 15 s
}

// parallel is how many checks run at a time.
const parallel = 8

// Doctor runs the checks of a server.
type Doctor struct {
	Options

	policies sync.Map // domain -> *policyVisit
	door     sync.Once
	greeting smtpDoor
	sights   sync.Map // group -> *sight
}

// New returns a doctor for one round.
func New(o Options) *Doctor {
	if o.Wait == 0 {
		o.Wait = 15 * time.Second
	}
	return &Doctor{Options: o}
}

// finding is what a check returns.
type finding struct {
	status   Status
	why, fix string
}

func ok(format string, args ...any) finding { return finding{OK, fmt.Sprintf(format, args...), ""} }
func skip(format string, args ...any) finding {
	return finding{Skipped, fmt.Sprintf(format, args...), ""}
}
func warn(fix, format string, args ...any) finding {
	return finding{Warn, fmt.Sprintf(format, args...), fix}
}
func fail(fix, format string, args ...any) finding {
	return finding{Fail, fmt.Sprintf(format, args...), fix}
}

// unanswered is what is said when the DNS gave no answer: nothing is known then.
func unanswered(err error) finding {
	return skip("the name service gave no answer: %v", err)
}

// notThere tells a denial, which is an answer, from a failure.
func notThere(err error) bool { return fault.Is(err, fault.NotFound) }

// put is how a record is to be made.
func put(r publish.Record) string {
	return fmt.Sprintf("put into the DNS: %s. IN %s %s", r.Name, r.Type, r.Data())
}

// task is one check of one thing.
type task struct {
	name string
	run  func(context.Context) finding
}

func (d *Doctor) tasks() (all []task) {
	for _, c := range hostChecks {
		all = append(all, task{c.name, func(ctx context.Context) finding { return c.run(d, ctx) }})
	}
	all = append(all, d.clusterTasks()...)
	for _, dom := range d.Domains {
		for _, c := range domainChecks {
			all = append(all, task{c.name + " " + dom.Name, func(ctx context.Context) finding { return c.run(d, ctx, dom) }})
		}
	}
	return all
}

// Count returns how many lines Run will bring.
func (d *Doctor) Count() int { return len(d.tasks()) + len(d.Warnings) }

// Run runs all checks and tells each line in the order of the tables. It ends early only
// with ctx.
func (d *Doctor) Run(ctx context.Context, tell func(Line) error) error {
	if f := d.resolverAnswers(ctx); f.status == Fail {
		// What waits for answers that do not come would take minutes.
		d.Resolver = silence{f.why}
	}
	tasks := d.tasks()
	results := make([]chan finding, len(tasks))
	for i := range results {
		results[i] = make(chan finding, 1)
	}
	next := make(chan int)
	for range parallel {
		go func() {
			for i := range next {
				results[i] <- d.one(ctx, tasks[i])
			}
		}()
	}
	go func() {
		defer close(next)
		for i := range tasks {
			next <- i
		}
	}()
	var failed error
	for i, t := range tasks {
		f := <-results[i] // all are waited for: they use what the caller closes
		if failed == nil {
			failed = tell(Line{t.name, f.status, f.why, f.fix})
		}
	}
	for _, w := range d.Warnings {
		if failed == nil {
			failed = tell(w)
		}
	}
	return failed
}

// one runs a check within its time.
func (d *Doctor) one(ctx context.Context, t task) finding {
	if ctx.Err() != nil {
		return skip("interrupted")
	}
	ctx, cancel := context.WithTimeout(ctx, d.Wait)
	defer cancel()
	f := t.run(ctx)
	if f.status != OK && f.fix == "" && ctx.Err() != nil {
		return skip("it took too long")
	}
	return f
}

// hostCheck is a row about the host; domainCheck one about a domain.
type hostCheck struct {
	name string
	run  func(*Doctor, context.Context) finding
}

type domainCheck struct {
	name string
	run  func(*Doctor, context.Context, publish.Domain) finding
}

// hostChecks in the order in which they are told: what others stand on comes first.
var hostChecks = []hostCheck{
	{"resolver", (*Doctor).resolverAnswers},
	{"resolver-dnssec", (*Doctor).resolverValidates},
	{"hostname", (*Doctor).hostname},
	{"hostname-address", (*Doctor).hostnameAddress},
	{"hostname-alias", (*Doctor).hostnameAlias},
	{"address-public", (*Doctor).addressPublic},
	{"ptr", (*Doctor).ptr},
	{"ptr-confirmed", (*Doctor).ptrConfirmed},
	{"helo-spf", (*Doctor).heloSPF},
	{"ipv6", (*Doctor).ipv6},
	{"dnssec", (*Doctor).dnssec},
	{"dns-update", (*Doctor).dnsUpdate},
	{"blocklists", (*Doctor).blocklists},

	{"admin-socket", (*Doctor).adminSocket},
	{"port-25-listen", (*Doctor).port25Listen},
	{"port-25-in", (*Doctor).port25In},
	{"port-25-out", (*Doctor).port25Out},
	{"smarthost", (*Doctor).smarthost},
	{"greeting", (*Doctor).greets},
	{"starttls", (*Doctor).startTLS},
	{"tls-versions", (*Doctor).tlsVersions},
	{"submission", (*Doctor).submission},
	{"mailboxes", (*Doctor).mailboxes},
	{"open-relay", (*Doctor).openRelay},

	{"certificate", (*Doctor).certificate},
	{"certificate-name", (*Doctor).certificateName},
	{"certificate-time", (*Doctor).certificateTime},
	{"certificate-chain", (*Doctor).certificateChain},
	{"acme", (*Doctor).acme},
	{"caa", (*Doctor).caa},
	{"tlsa", (*Doctor).tlsa},

	{"clock", (*Doctor).clock},
	{"time-zone", (*Doctor).timeZone},
	{"disk", (*Doctor).disk},
	{"data-folder", (*Doctor).dataFolder},
	{"store", (*Doctor).store},
	{"backup", (*Doctor).backup},
	{"descriptors", (*Doctor).descriptors},
	{"root", (*Doctor).root},
	{"queue-size", (*Doctor).queueSize},
	{"queue-age", (*Doctor).queueAge},
	{"queue-failures", (*Doctor).queueFailures},
	{"links", (*Doctor).links},
	{"domains", (*Doctor).domains},
}

var domainChecks = []domainCheck{
	{"mx", (*Doctor).mx},
	{"mx-alias", (*Doctor).mxAlias},
	{"mx-address", (*Doctor).mxAddress},
	{"spf", (*Doctor).spf},
	{"spf-lookups", (*Doctor).spfLookups},
	{"spf-addresses", (*Doctor).spfAddresses},
	{"spf-all", (*Doctor).spfAll},
	{"dkim", (*Doctor).dkim},
	{"dkim-strength", (*Doctor).dkimStrength},
	{"dkim-signature", (*Doctor).dkimSignature},
	{"dkim-age", (*Doctor).dkimAge},
	{"dkim-next", (*Doctor).dkimNext},
	{"dkim-stale", (*Doctor).dkimStale},
	{"dmarc", (*Doctor).dmarc},
	{"dmarc-policy", (*Doctor).dmarcPolicy},
	{"dmarc-reports", (*Doctor).dmarcReports},
	{"dmarc-reports-elsewhere", (*Doctor).dmarcElsewhere},
	{"mta-sts", (*Doctor).mtaSTS},
	{"mta-sts-policy", (*Doctor).mtaSTSPolicy},
	{"mta-sts-mx", (*Doctor).mtaSTSHosts},
	{"tls-reports", (*Doctor).tlsReports},
	{"autoconfig", (*Doctor).autoconfig},
	{"autodiscover", (*Doctor).autodiscover},
	{"services", (*Doctor).services},
	{"client-names", (*Doctor).clientNames},
	{"agents", (*Doctor).agents},
	{"programs", (*Doctor).programs},
	{"postmaster", (*Doctor).postmaster},
	{"abuse", (*Doctor).abuse},
	{"name-lists", (*Doctor).nameLists},
	{"loop", (*Doctor).loop},
}
