package martlet

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The seams. What a program gets from the world comes in through options: clock,
// chance, network, names, files, environment (docs/decisions/0021-seams.md). So a test
// can turn the clock back, cut the power or lose a packet, and do it again from a seed.

// edges are the packages that hand the world in.
var edges = []string{"cmd/martlet", "internal/bench", "internal/engine/postgres/pgtest", "internal/engine/s3/s3test", "test"}

// outside says which names of a package reach into the world.
var outside = map[string]names{
	"context":       these(`With(Timeout|Deadline)(Cause)?`),
	"crypto/rand":   allBut(`-`),
	"crypto/tls":    these(`Dial.*|Listen|LoadX509KeyPair`),
	"crypto/x509":   these(`SystemCertPool`),
	"hash/maphash":  these(`MakeSeed|Hash`),
	"io/ioutil":     allBut(`Discard|NopCloser|ReadAll`),
	"log":           allBut(`Logger|New|L[a-z]+`),
	"log/slog":      these(`Default|SetDefault|Log|LogAttrs|(Debug|Info|Warn|Error)(Context)?`),
	"math/rand":     allBut(`New.*|Rand|Source(64)?|Zipf`),
	"math/rand/v2":  allBut(`New.*|Rand|Source|PCG|ChaCha8|Zipf`),
	"net":           these(`Dial.*|Listen(Packet|TCP|UDP|IP|Unix|Unixgram|MulticastUDP|Config)?|Lookup.*|Resolve.*Addr|Resolver|DefaultResolver|Interface.*|File(Conn|Listener|PacketConn)`),
	"net/http":      these(`Get|Head|Post|PostForm|Default(Client|Transport)|ListenAndServe.*|Serve(TLS|File)?|Dir|ProxyFromEnvironment`),
	"os":            allBut(`Err.*|File|FileInfo|FileMode|DirEntry|PathError|LinkError|SyscallError|Mode.*|O_.*|Signal|Interrupt|Kill|Is(Exist|NotExist|Permission|Timeout)`),
	"os/exec":       allBut(`-`),
	"os/signal":     allBut(`-`),
	"os/user":       allBut(`-`),
	"path/filepath": these(`Walk.*|Glob|Abs|EvalSymlinks`),
	"syscall":       allBut(`[A-Z0-9_]+|Errno|Conn|RawConn|Signal|EpollEvent`),
	"time":          these(`Now|Since|Until|After|AfterFunc|NewTimer|NewTicker|Tick|Sleep|LoadLocation|Local`),

	"github.com/cockroachdb/pebble/v2/vfs": these(`Default`),
	"github.com/miekg/dns":                 these(`Id|Exchange.*|Dial.*|ClientConfigFromFile|ListenAndServe.*`),
	"golang.org/x/sys/unix":                allBut(`[A-Z0-9_]+|Errno`),
}

// incomplete are values that fall back on the world unless a field is set.
var incomplete = map[string]string{
	"crypto/tls.Config":         "Time",
	"crypto/x509.VerifyOptions": "CurrentTime",
	"net/http.Client":           "Transport",
	"net/http.Transport":        "DialContext",
}

// grants are the exceptions. A package or name of a row that is not used any more is
// to be taken out of it: the test says so.
var grants = []grant{
	{
		in:    "check discover dnsx directory engine/pebble engine/postgres doctor engine/s3 move/imapc move/imapsource move/link move/pop3source move/signin node publish queue report send serve/admin serve/imapd serve/netsrv serve/smtpd store sts turn",
		names: "context.WithTimeout time.After time.AfterFunc time.NewTimer time.Sleep",
		why:   "How long something may take is measured by timers of the runtime: no step of the clock moves them, and in tests testing/synctest drives them.",
	},
	{
		in:    "engine/postgres move/imapc move/pop3source send serve/netsrv turn",
		names: "time.Now time.Since time.Until",
		why:   "Deadlines of sockets are moments of the runtime's clock, which is the one that net knows; turns are measured by it. None is shown or stored.",
	},
	{
		in:    "serve/netsrv",
		names: "os.NewFile syscall.EpollCreate1 syscall.EpollCtl syscall.EpollWait syscall.SetNonblock golang.org/x/sys/unix.SetsockoptInt golang.org/x/sys/unix.Poll golang.org/x/sys/unix.PollFd",
		why:   "How sockets that came from outside are awaited. Connections of tests are pipes and never get here.",
	},
	{
		in:    "serve/imapd",
		names: "hash/maphash.MakeSeed",
		why:   "The seed of a table in memory, which can be made in no other way. No answer depends on it.",
	},
	{
		in:    "dnsx/dnstest",
		names: "net.Listen net.ListenPacket",
		why:   "A name server for tests.",
	},
}

type grant struct {
	in    string // packages under internal/
	names string // with the paths of their packages
	why   string
}

func (g grant) covers(dir, name string) bool {
	return slices.Contains(strings.Fields(g.in), strings.TrimPrefix(dir, "internal/")) && slices.Contains(strings.Fields(g.names), name)
}

// names are some names of a package.
type names struct {
	match *regexp.Regexp
	not   bool
}

func these(pattern string) names  { return names{regexp.MustCompile(`^(` + pattern + `)$`), false} }
func allBut(pattern string) names { return names{regexp.MustCompile(`^(` + pattern + `)$`), true} }

func (n names) has(name string) bool { return n.match.MatchString(name) != n.not }

// reach is a place where a file reaches into the world.
type reach struct {
	pos  token.Pos
	name string // with the path of its package
	how  string
}

// reaches finds them by name, called or not: time.Now is one as the value of a field, too.
func reaches(f *ast.File) (found []reach) {
	imports := map[string]string{}
	for _, imp := range f.Imports {
		from := strings.Trim(imp.Path.Value, `"`)
		_, watched := outside[from]
		switch {
		case imp.Name == nil:
			imports[importName(from)] = from
		case imp.Name.Name == "." && watched:
			found = append(found, reach{imp.Pos(), from + ".*", "names of its own are needed to see what is used"})
		default:
			imports[imp.Name.Name] = from
		}
	}
	// qualified returns path and name of what an expression names, if it is of a package.
	qualified := func(e ast.Expr) (from, name string) {
		sel, ok := e.(*ast.SelectorExpr)
		if !ok {
			return "", ""
		}
		id, ok := sel.X.(*ast.Ident)
		if !ok || id.Obj != nil { // a variable that has the name of a package
			return "", ""
		}
		return imports[id.Name], sel.Sel.Name
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			from, name := qualified(n)
			if set, ok := outside[from]; ok && set.has(name) {
				found = append(found, reach{n.Pos(), from + "." + name, "it is to come in through the options"})
			}
		case *ast.CompositeLit:
			from, name := qualified(n.Type)
			if field := incomplete[from+"."+name]; field != "" && !sets(n, field) {
				found = append(found, reach{n.Pos(), from + "." + name, "its field " + field + " is to be set"})
			}
		}
		return true
	})
	return found
}

// importName is the name of a package whose import gives it none.
func importName(from string) string {
	name := path.Base(from)
	if regexp.MustCompile(`^v[0-9]+$`).MatchString(name) {
		name = path.Base(path.Dir(from))
	}
	return name
}

func sets(lit *ast.CompositeLit, field string) bool {
	return slices.ContainsFunc(lit.Elts, func(e ast.Expr) bool {
		kv, ok := e.(*ast.KeyValueExpr)
		if !ok {
			return false
		}
		id, ok := kv.Key.(*ast.Ident)
		return ok && id.Name == field
	})
}

func TestTheWorldComesInFromOutside(t *testing.T) {
	used := map[string]bool{} // "row package" and "row name"
	for _, s := range sources(t) {
		if s.test || s.dir == "." || slices.ContainsFunc(edges, func(e string) bool { return s.dir == e || strings.HasPrefix(s.dir, e+"/") }) {
			continue
		}
		for _, r := range reaches(s.file) {
			row := slices.IndexFunc(grants, func(g grant) bool { return g.covers(s.dir, r.name) })
			if row < 0 {
				t.Errorf("%s: %s: %s", s.fset.Position(r.pos), r.name, r.how)
				continue
			}
			used[fmt.Sprint(row, " ", strings.TrimPrefix(s.dir, "internal/"))] = true
			used[fmt.Sprint(row, " ", r.name)] = true
		}
	}
	for row, g := range grants {
		for _, word := range append(strings.Fields(g.in), strings.Fields(g.names)...) {
			if !used[fmt.Sprint(row, " ", word)] {
				t.Errorf("the exception for %s is not needed any more (%s)", word, g.why)
			}
		}
	}
}

// A test that sees nothing would be content with anything: each line that reaches out
// says so, and all others must not be reported.
func TestSeamsAreSeen(t *testing.T) {
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, "reaching.go", reachingOut, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	want := map[int]string{}
	for _, group := range f.Comments {
		for _, c := range group.List {
			want[fset.Position(c.Pos()).Line] = strings.TrimSpace(strings.TrimPrefix(c.Text, "//"))
		}
	}
	got := map[int]string{}
	for _, r := range reaches(f) {
		line := fset.Position(r.pos).Line
		got[line] = strings.TrimSpace(got[line] + " " + r.name)
	}
	for line := range fset.File(f.Pos()).LineCount() {
		if got[line] != want[line] {
			t.Errorf("line %d: %q was seen, %q is there", line, got[line], cmp.Or(want[line], "nothing"))
		}
	}
	for from := range outside {
		if !slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"`+from+`"` }) {
			t.Errorf("the example does not reach for %s", from)
		}
	}
	if g := (grant{in: "send", names: "time.Now"}); !g.covers("internal/send", "time.Now") || g.covers("internal/send", "time.Since") || g.covers("internal/store", "time.Now") {
		t.Error("an exception holds for more, or less, than what it names")
	}
}

const reachingOut = `package reaching

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"hash/maphash"
	"io/ioutil"
	"log"
	"log/slog"
	random "math/rand"
	chance "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"syscall"
	clock "time"
	. "time" // time.*

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

type options struct {
	Now  func() clock.Time
	Wait clock.Duration
}

var defaults = options{Now: clock.Now} // time.Now

func reaching(ctx context.Context, o options, time options) {
	_ = o.Now()
	_ = time.Now()
	_ = clock.Unix(1, 0).Add(clock.Second)
	_ = clock.Since(o.Now()) // time.Since
	_ = clock.Until(o.Now()) // time.Until
	_ = clock.After(1)       // time.After
	wait := clock.Sleep      // time.Sleep
	wait(1)
	_ = clock.AfterFunc(1, nil)          // time.AfterFunc
	_, _ = clock.NewTimer, clock.NewTicker // time.NewTimer time.NewTicker
	_ = clock.Tick(1)                    // time.Tick
	_ = clock.Local                      // time.Local
	_, _ = context.WithTimeout(ctx, 1)   // context.WithTimeout
	_, _ = context.WithDeadline(ctx, x)  // context.WithDeadline
	_, _ = context.WithCancel(ctx)
	_ = rand.Reader          // crypto/rand.Reader
	_, _ = rand.Read(nil)    // crypto/rand.Read
	_ = random.Int()         // math/rand.Int
	_ = random.New(random.NewSource(1))
	_ = chance.Shuffle       // math/rand/v2.Shuffle
	_ = chance.N(10)         // math/rand/v2.N
	_ = chance.New(chance.NewPCG(1, 2)).IntN(10)
	_ = maphash.MakeSeed()   // hash/maphash.MakeSeed
	var h maphash.Hash       // hash/maphash.Hash
	_ = maphash.Bytes(seed, nil)
	_, _ = tls.Dial("", "", nil)       // crypto/tls.Dial
	_ = tls.Dialer{}                   // crypto/tls.Dialer
	_, _ = tls.Listen("", "", nil)     // crypto/tls.Listen
	_, _ = tls.LoadX509KeyPair("", "") // crypto/tls.LoadX509KeyPair
	_ = tls.Config{MinVersion: 1}      // crypto/tls.Config
	_ = tls.Config{Time: o.Now}
	_ = x509.VerifyOptions{}           // crypto/x509.VerifyOptions
	_ = x509.VerifyOptions{CurrentTime: o.Now()}
	_, _ = x509.SystemCertPool()       // crypto/x509.SystemCertPool
	_, _ = net.Listen("", "")          // net.Listen
	_, _ = net.Dial("", "")            // net.Dial
	_ = new(net.Dialer).DialContext    // net.Dialer
	_ = net.Resolver{}                 // net.Resolver
	_, _ = net.LookupMX("")            // net.LookupMX
	_, _ = net.InterfaceAddrs()        // net.InterfaceAddrs
	_, _ = net.Pipe()
	var _ net.Conn
	_ = http.DefaultClient             // net/http.DefaultClient
	_ = http.Client{}                  // net/http.Client
	_ = http.Client{Transport: nil}
	_ = http.Transport{}               // net/http.Transport
	_ = http.Transport{DialContext: nil}
	_, _ = http.Get("")                // net/http.Get
	_ = http.StatusOK
	_, _ = os.Create("")               // os.Create
	_, _ = os.Open("")                 // os.Open
	_, _ = os.OpenFile("", os.O_RDWR, 0) // os.OpenFile
	_, _ = os.ReadFile("")             // os.ReadFile
	_ = os.WriteFile                   // os.WriteFile
	_ = os.MkdirAll("", 0)             // os.MkdirAll
	_ = os.Remove("")                  // os.Remove
	_ = os.Rename("", "")              // os.Rename
	_, _ = os.Stat("")                 // os.Stat
	_ = os.Getenv("")                  // os.Getenv
	_ = os.Getpid()                    // os.Getpid
	_ = os.Stdout                      // os.Stdout
	_ = os.Exit                        // os.Exit
	var file *os.File
	_ = file.Close()
	_ = os.ErrNotExist
	_ = exec.Command("")               // os/exec.Command
	signal.Ignore()                    // os/signal.Ignore
	_, _ = user.Current()              // os/user.Current
	_, _ = ioutil.ReadFile("")         // io/ioutil.ReadFile
	_, _ = filepath.Abs("")            // path/filepath.Abs
	_ = filepath.Join("", "")
	_ = syscall.Getpid()               // syscall.Getpid
	_ = syscall.ENOSPC
	_ = unix.Fsync(0)                  // golang.org/x/sys/unix.Fsync
	_ = unix.ENOSPC
	log.Print()                        // log.Print
	slog.Info("")                      // log/slog.Info
	_ = slog.LevelInfo
	_ = vfs.Default                    // github.com/cockroachdb/pebble/v2/vfs.Default
	_ = vfs.NewMem()
	_ = dns.Id()                       // github.com/miekg/dns.Id
	_, _ = dns.ClientConfigFromFile("") // github.com/miekg/dns.ClientConfigFromFile
	_ = new(dns.Msg)
}
`
