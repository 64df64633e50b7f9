package sts

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log"
	"math"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/miekg/dns"

	"github.com/martlet-mail/martlet/internal/dnsx"
	"github.com/martlet-mail/martlet/internal/dnsx/dnstest"
	"github.com/martlet-mail/martlet/internal/engine/pebble"
	"github.com/martlet-mail/martlet/internal/fault"
)

const enforce = "version: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmx: *.example.net\r\nmax_age: 86400\r\n"

func TestParsePolicy(t *testing.T) {
	long := "version: STSv1\nmode: enforce\nmax_age: 1\n" + strings.Repeat("mx: mail.example.org\n", 4000)
	for _, tc := range []struct {
		name, text string
		want       string // mode, seconds, hosts; "" is refused
	}{
		{"as in the RFC", "version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.example.net\r\nmx: backupmx.example.com\r\nmax_age: 604800\r\n", "enforce 604800 [mail.example.com *.example.net backupmx.example.com]"},
		{"bare LF, no end", "version: STSv1\nmode: testing\nmx: a.example\nmax_age: 1", "testing 1 [a.example]"},
		{"any order, unknown fields", "max_age:5\nx-new: what ever é\nmx:A.Example.\nmode:enforce\nversion:STSv1\n", "enforce 5 [a.example]"},
		{"the first counts", "version: STSv1\nmode: none\nmode: enforce\nmax_age: 9\nmax_age: 10\n", "none 9 []"},
		{"spaces at the end", "version: STSv1  \nmode: none \t\nmax_age: 9 \n", "none 9 []"},
		{"a year at most", "version: STSv1\nmode: none\nmax_age: 9999999999\n", "none 31557600 []"},
		{"no version", "mode: none\nmax_age: 9\n", ""},
		{"another version", "version: STSv2\nmode: none\nmax_age: 9\n", ""},
		{"no mode", "version: STSv1\nmax_age: 9\nmx: a.example\n", ""},
		{"another mode", "version: STSv1\nmode: Enforce\nmax_age: 9\nmx: a.example\n", ""},
		{"no max_age", "version: STSv1\nmode: enforce\nmx: a.example\n", ""},
		{"max_age too long", "version: STSv1\nmode: none\nmax_age: 00000000009\n", ""},
		{"max_age negative", "version: STSv1\nmode: none\nmax_age: -9\n", ""},
		{"no host", "version: STSv1\nmode: enforce\nmax_age: 9\n", ""},
		{"wildcard inside", "version: STSv1\nmode: enforce\nmax_age: 9\nmx: mx.*.example\n", ""},
		{"wildcard in a label", "version: STSv1\nmode: enforce\nmax_age: 9\nmx: mx*.example\n", ""},
		{"wildcard alone", "version: STSv1\nmode: enforce\nmax_age: 9\nmx: *\n", ""},
		{"no field", "<html>\n", ""},
		{"a page", "<html><body>404: not found</body></html>", ""},
		{"not UTF-8", "version: STSv1\nmode: none\nmax_age: 9\nx: \xff\n", ""},
		{"empty", "", ""},
		{"too long", long, ""},
	} {
		p, err := ParsePolicy([]byte(tc.text))
		got := ""
		if err == nil {
			got = fmt.Sprintf("%s %d %v", p.Mode, p.MaxAge/time.Second, p.MX)
		} else if !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", tc.name, err)
		}
		if got != tc.want {
			t.Errorf("%s: %q, want %q (%v)", tc.name, got, tc.want, err)
		}
	}
}

func TestParseTXT(t *testing.T) {
	for _, tc := range []struct {
		records []string
		want    string
	}{
		{[]string{"v=STSv1; id=20160831085700Z;"}, "20160831085700Z"},
		{[]string{"v=STSv1;id=1"}, "1"},
		{[]string{"v=spf1 -all", "v=STSv1 ; new=x ; id=1 ;"}, "1"},
		{[]string{"v=STSv1; id=1; id=2"}, "1"},
		{[]string{"v=STSv1; id=1", "v=STSv1; id=2"}, ""},
		{[]string{"v=STSv1; id=1", "v=STSv11; id=2"}, "1"},
		{[]string{"v=STSv1;"}, ""},
		{[]string{"v=STSv1; id="}, ""},
		{[]string{"v=STSv1; id=a-b"}, ""},
		{[]string{"v=STSv1; id=" + strings.Repeat("1", 33)}, ""},
		{[]string{"v=STSv1; id=é"}, ""},
		{[]string{"v=STSv1; id"}, ""},
		{[]string{"id=1; v=STSv1"}, ""},
		{[]string{"V=STSv1; id=1"}, ""},
		{nil, ""},
	} {
		if got, ok := ParseTXT(tc.records); got != tc.want || ok != (tc.want != "") {
			t.Errorf("%q: %q, want %q", tc.records, got, tc.want)
		}
	}
}

func TestMatches(t *testing.T) {
	p := Policy{MX: []string{"mx.example.org", "*.example.com"}}
	for host, want := range map[string]bool{
		"mx.example.org": true, "MX.Example.ORG.": true, "a.mx.example.org": false, "example.org": false,
		"mail.example.com": true, "example.com": false, "foo.bar.example.com": false, ".example.com": false, "": false,
	} {
		if p.Matches(host) != want {
			t.Errorf("%q: %v", host, !want)
		}
	}
}

// FuzzPolicy: what is read has its bounds, and is the same when it is written and read again.
func FuzzPolicy(f *testing.F) {
	f.Add([]byte(enforce))
	f.Add([]byte("version: STSv1\nmode: none\nmax_age: 0\n"))
	f.Add([]byte("mx: *.\nmode:\n: \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePolicy(b)
		if err != nil {
			if !fault.Is(err, fault.Invalid) || fault.Say(err) == "" {
				t.Fatal(err)
			}
			return
		}
		if p.MaxAge < 0 || p.MaxAge > maxMaxAge || len(p.MX) > maxMX || len(p.MX) == 0 && p.Mode != None {
			t.Fatalf("%+v", p)
		}
		q, err := ParsePolicy([]byte(p.Text()))
		if err != nil || fmt.Sprint(*q) != fmt.Sprint(*p) {
			t.Fatalf("%+v, then %+v, %v", p, q, err)
		}
	})
}

// FuzzTXT: an id is one to 32 letters and digits, from a record that begins as it must.
func FuzzTXT(f *testing.F) {
	f.Add("v=STSv1; id=20160831085700Z;")
	f.Add("v=STSv1;x=;id=1")
	f.Fuzz(func(t *testing.T, s string) {
		id, ok := ParseTXT([]string{s})
		if ok && (len(id) == 0 || len(id) > 32 || strings.Trim(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" || !strings.HasPrefix(s, "v=STSv1")) {
			t.Fatalf("%q: %q", s, id)
		}
	})
}

// FuzzKept: a stored policy is read whole or refused as damaged.
func FuzzKept(f *testing.F) {
	k := kept{ID: "1", Fetched: 5, Used: 6, Policy: Policy{Enforce, time.Hour, []string{"mx.example.org"}}}
	f.Add(k.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := decode(b)
		if err != nil {
			if !fault.Is(err, fault.Corrupt) {
				t.Fatal(err)
			}
			return
		}
		again, err := decode(k.encode())
		if err != nil || fmt.Sprint(again) != fmt.Sprint(k) {
			t.Fatalf("%+v, then %+v, %v", k, again, err)
		}
	})
}

// world is a policy host, a name server and a cache.
type world struct {
	t     *testing.T
	dns   *dnstest.Server
	cache *Cache
	opt   Options

	mu    sync.Mutex
	asked map[string]int
	serve http.HandlerFunc
	now   time.Time
}

func (w *world) count(host string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asked[host]
}

func (w *world) answer(f http.HandlerFunc) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serve = f
}

func (w *world) gives(text string) {
	w.answer(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprint(rw, text)
	})
}

func (w *world) pass(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// zone has an A record of the policy host and a TXT record with the id, if there is one.
func zone(id string, domains ...string) string {
	z := ""
	for _, d := range append(domains, "example.org") {
		z += "mta-sts." + d + ". 1 IN A 127.0.0.1\n"
		if id != "" {
			z += "_mta-sts." + d + ". 0 IN TXT \"v=STSv1; id=" + id + ";\"\n"
		}
	}
	return z
}

func start(t *testing.T, text string, change func(*Options)) *world {
	t.Helper()
	w := &world{t: t, asked: map[string]int{}, now: time.Now()}
	w.gives(enforce)
	names := []string{"mta-sts.example.org"}
	for i := range 60 {
		names = append(names, fmt.Sprintf("mta-sts.d%d.many.test", i))
	}
	cert, pool := certificate(t, names...)
	ts := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		host, _, _ := net.SplitHostPort(r.Host)
		w.asked[host]++
		f := w.serve
		w.mu.Unlock()
		if r.URL.Path != "/.well-known/mta-sts.txt" {
			http.NotFound(rw, r)
			return
		}
		f(rw, r)
	}))
	ts.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	ts.Config.ErrorLog = log.New(io.Discard, "", 0)
	ts.StartTLS()
	t.Cleanup(ts.CloseClientConnections)
	var err error
	if w.dns, err = dnstest.Start(zone("1") + text); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.dns.Close)
	dial := new(net.Dialer).DialContext
	res, err := dnsx.New(dnsx.Options{Servers: []string{w.dns.Addr()}, Timeout: time.Second, Rounds: 1, CacheEntries: -1, Now: time.Now, ID: dns.Id, Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	eng, err := pebble.Open("data", pebble.Options{FS: vfs.NewMem(), Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { eng.Close() })
	w.opt = Options{Resolver: res, Engine: eng, AllowPrivate: true, Roots: pool, Port: uint16(ts.Listener.Addr().(*net.TCPAddr).Port),
		Now: w.clock, Dial: dial, FetchTime: 5 * time.Second, WaitTime: 5 * time.Second}
	if change != nil {
		change(&w.opt)
	}
	w.cache = New(w.opt)
	t.Cleanup(func() { w.cache.Close() })
	return w
}

// again is the cache after a restart.
func (w *world) again() {
	w.cache.Close()
	w.cache = New(w.opt)
}

func (w *world) zone(text string) {
	w.t.Helper()
	if err := w.dns.SetZone(text); err != nil {
		w.t.Fatal(err)
	}
}

// policy returns "mode id" or "none", with the kind of a failure.
func (w *world) policy(domain string) string {
	w.t.Helper()
	f, err := w.cache.Policy(w.t.Context(), domain)
	if err != nil {
		if !fault.Is(err, fault.Unavailable) {
			w.t.Errorf("%v", err)
		}
		return "wait"
	}
	s := "none"
	if f.Policy != nil {
		s = string(f.Policy.Mode) + " " + f.ID
	}
	if f.Failure != "" {
		s += " " + string(f.Failure)
	}
	return s
}

func certificate(t *testing.T, names ...string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: names[0]}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(2 * 365 * 24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func (w *world) expect(what, domain, want string, asked int) {
	w.t.Helper()
	if got := w.policy(domain); got != want {
		w.t.Errorf("%s: %s, want %s", what, got, want)
	}
	if n := w.count("mta-sts." + domain); n != asked {
		w.t.Errorf("%s: the policy host was asked %d times, want %d", what, n, asked)
	}
}

// The life of a policy: fetched once, kept over a restart and without DNS, renewed when the
// id changes, gone when it has run out.
func TestLifeOfAPolicy(t *testing.T) {
	w := start(t, "", nil)
	w.expect("first", "example.org", "enforce 1", 1)
	w.expect("again", "Example.ORG.", "enforce 1", 0)
	w.expect("once only", "example.org", "enforce 1", 1)
	w.again()
	w.expect("after a restart", "example.org", "enforce 1", 1)
	w.zone("mta-sts.example.org. IN A 127.0.0.1\n")
	w.expect("without a record", "example.org", "enforce 1", 1)
	w.zone("! servfail _mta-sts.example.org\n")
	w.expect("without DNS", "example.org", "enforce 1", 1)

	w.zone(zone("2"))
	w.gives(strings.Replace(enforce, "enforce", "testing", 1))
	w.expect("new id", "example.org", "testing 2", 2)
	w.zone(zone("3"))
	w.answer(http.NotFound)
	w.expect("new id, no policy", "example.org", "testing 2 sts-policy-fetch-error", 3)
	w.expect("not asked again at once", "example.org", "testing 2 sts-policy-fetch-error", 3)
	w.pass(retryAfter)
	w.gives("version: STSv1\nmode: none\nmax_age: 86400\n")
	w.expect("asked again later", "example.org", "none", 4)
	w.zone(zone("4"))
	w.gives(enforce)
	w.expect("back again", "example.org", "enforce 4", 5)
	w.answer(http.NotFound)
	w.pass(23 * time.Hour)
	w.expect("within its time", "example.org", "enforce 4", 5)
	w.pass(time.Hour)
	w.expect("after its time", "example.org", "none sts-policy-fetch-error", 6)
}

// That DNS cannot be asked whether there is a policy is told, unless one is known here.
func TestUnknown(t *testing.T) {
	w := start(t, "! servfail _mta-sts.lame.test\n_mta-sts.odd.test. IN TXT \"hello\"\n", nil)
	unknown := func(domain string) bool {
		f, err := w.cache.Policy(t.Context(), domain)
		return f.Unknown && err == nil
	}
	if !unknown("lame.test") || unknown("odd.test") || unknown("nothing.test") || unknown("example.org") {
		t.Error("it is not told apart")
	}
	w.zone("! servfail _mta-sts.example.org\n")
	if unknown("example.org") {
		t.Error("the policy of example.org is known")
	}
}

// A policy in use is fetched again each day, so that it never ends.
func TestRefresh(t *testing.T) {
	w := start(t, "", nil)
	w.gives(strings.Replace(enforce, "86400", "864000", 1))
	w.expect("first", "example.org", "enforce 1", 1)
	for day := range 3 {
		w.pass(25 * time.Hour)
		if err := w.cache.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := w.count("mta-sts.example.org"); n != day+2 {
			t.Errorf("day %d: asked %d times", day, n)
		}
	}
	w.again()
	w.answer(http.NotFound)
	for range 9 {
		w.pass(25 * time.Hour)
		if err := w.cache.Refresh(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	w.expect("still", "example.org", "enforce 1 sts-policy-fetch-error", 13)
	w.pass(48 * time.Hour)
	if err := w.cache.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if list, err := w.cache.after(t.Context(), "", 9); err != nil || len(list) != 0 {
		t.Errorf("%v %v", list, err)
	}
}

// A policy that made room in memory for others while its renewal failed still holds: it lies
// in the engine.
func TestRoomMadeDuringFailedFetch(t *testing.T) {
	w := start(t, "", nil)
	w.expect("first", "example.org", "enforce 1", 1)
	w.zone(zone("2"))
	w.answer(func(rw http.ResponseWriter, _ *http.Request) {
		w.cache.mu.Lock()
		delete(w.cache.known, "example.org")
		w.cache.mu.Unlock()
		http.Error(rw, "no", http.StatusInternalServerError)
	})
	for range 3 {
		w.expect("made room", "example.org", "enforce 1 sts-policy-fetch-error", 2)
	}
}

// What others publish takes no more memory than it may, neither in the course of a refresh
// nor of mail, and what had to make room holds.
func TestMemoryOfPolicies(t *testing.T) {
	w := start(t, "", nil)
	mx := make([]string, 0, 250)
	for i := range 250 { // 62 KB: within maxPolicy
		mx = append(mx, fmt.Sprintf("%s%03d.test", strings.Repeat(strings.Repeat("a", 59)+".", 4), i))
	}
	const n = 700 // 45 MB
	now := w.clock().UnixMilli()
	for i := range n {
		if err := w.cache.write(t.Context(), fmt.Sprintf("d%d.test", i), kept{ID: "1", Fetched: now, Used: now, Policy: Policy{Enforce, 300 * 24 * time.Hour, mx}}); err != nil {
			t.Fatal(err)
		}
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	// The store is in memory, too: what it still writes of its own must not be counted.
	for quiet, last := 0, heap(); quiet < 5; {
		time.Sleep(50 * time.Millisecond)
		if now := heap(); now-last < 1<<20 && last-now < 1<<20 {
			quiet++
		} else {
			quiet, last = 0, now
		}
	}
	held := func(what string, reset, do func()) {
		t.Helper()
		least := int64(math.MaxInt64)
		for range 3 { // what it needs itself it needs each time
			reset()
			before := heap()
			do()
			least = min(least, heap()-before)
		}
		if least > 32<<20 {
			t.Errorf("%s holds %d MB", what, least>>20)
		}
	}
	var steps [][]dated
	held("a refresh", func() { steps = nil }, func() {
		for last := ""; ; {
			some, err := w.cache.after(t.Context(), last, 300)
			if err != nil {
				t.Fatal(err)
			}
			if len(some) == 0 {
				return
			}
			last = some[len(some)-1].domain
			steps = append(steps, some)
		}
	})
	if len(steps) != 3 || len(steps[2]) != 100 || !steps[0][0].holds(now) {
		t.Errorf("%d steps", len(steps))
	}
	held("memory", func() { w.cache.known, w.cache.weight = map[string]*entry{}, 0 }, func() {
		for i := range n + 100 { // some again
			domain := fmt.Sprintf("d%d.test", i%n)
			f := w.cache.found(domain, must(w.cache.entry(t.Context(), domain)))
			if f.Policy == nil || len(f.Policy.MX) != len(mx) {
				t.Fatalf("%s: %+v", domain, f)
			}
		}
	})
	sum := 0
	for _, e := range w.cache.known {
		sum += e.weight
	}
	if sum != w.cache.weight || sum > maxKnownBytes || len(w.cache.known) < 200 {
		t.Errorf("%d domains of %d bytes; %d were counted", len(w.cache.known), sum, w.cache.weight)
	}
	runtime.KeepAlive(steps)
	w.pass(400 * 24 * time.Hour)
	if err := w.cache.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if some, err := w.cache.after(t.Context(), "", 1); err != nil || len(some) != 0 {
		t.Errorf("all have run out, and there is %v, %v", some, err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// Each way in which a fetch fails has its kind, and none makes a policy.
func TestAttack75PolicyFetches(t *testing.T) {
	for _, tc := range []struct {
		name   string
		serve  http.HandlerFunc
		change func(*Options)
		want   string
	}{
		{"redirect", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery == "" {
				http.Redirect(w, r, r.URL.Path+"?again", http.StatusFound)
				return
			}
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprint(w, enforce)
		}, nil, "none sts-policy-fetch-error"},
		{"not text/plain", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, enforce)
		}, nil, "none sts-policy-fetch-error"},
		{"too long", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprint(w, enforce)
			w.Write(bytes.Repeat([]byte("mx: a.example\n"), 10000))
		}, nil, "none sts-policy-fetch-error"},
		{"no policy", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			fmt.Fprint(w, "hello\n")
		}, nil, "none sts-policy-invalid"},
		{"unknown authority", nil, func(o *Options) { o.Roots = x509.NewCertPool() }, "none sts-webpki-invalid"},
		{"ended certificate", nil, func(o *Options) {
			o.Now = func() time.Time { return time.Now().Add(3 * 365 * 24 * time.Hour) }
		}, "none sts-webpki-invalid"},
		{"private address", nil, func(o *Options) { o.AllowPrivate = false }, "none sts-policy-fetch-error"},
		{"drops", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, nil, "none sts-policy-fetch-error"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := start(t, "", tc.change)
			if tc.serve != nil {
				w.answer(tc.serve)
			}
			if got := w.policy("example.org"); got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
			if tc.name == "redirect" && w.count("mta-sts.example.org") != 1 {
				t.Error("it was followed")
			}
			if tc.name == "private address" && w.count("mta-sts.example.org") != 0 {
				t.Error("it was asked")
			}
		})
	}
	t.Run("another name", func(t *testing.T) {
		w := start(t, zone("1", "other.test"), nil)
		if got := w.policy("other.test"); got != "none sts-webpki-invalid" {
			t.Error(got)
		}
	})
}

// Many policy hosts that take everything and answer nothing hold up neither a domain
// without a policy, nor one whose policy is known, nor, for long, each other.
func TestAttack75StalledPolicyHosts(t *testing.T) {
	var domains []string
	for i := range 60 {
		domains = append(domains, fmt.Sprintf("d%d.many.test", i))
	}
	many := ""
	for _, d := range domains {
		many += "mta-sts." + d + ". IN A 127.0.0.1\n_mta-sts." + d + ". IN TXT \"v=STSv1; id=1\"\n"
	}
	w := start(t, many, func(o *Options) {
		o.WaitTime, o.FetchTime = 300*time.Millisecond, 3*time.Second
	})
	w.expect("known", "example.org", "enforce 1", 1)
	over := make(chan struct{})
	w.answer(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-over:
		case <-r.Context().Done():
		}
	})
	var wg sync.WaitGroup
	var mu sync.Mutex
	late := 0
	for _, d := range domains {
		wg.Go(func() {
			got := w.policy(d)
			mu.Lock()
			defer mu.Unlock()
			if got == "wait" {
				late++
			}
		})
	}
	// While they hang:
	if got := w.policy("example.org"); got != "enforce 1" {
		t.Error(got)
	}
	if got := w.policy("nothing.test"); got != "none" {
		t.Error(got)
	}
	wg.Wait()
	if late != len(domains) {
		t.Errorf("%d of %d domains were told to wait", late, len(domains))
	}
	close(over)
	// What is done in the end is what the policy said, or that there was none.
	for w.policy("d0.many.test") == "wait" {
		time.Sleep(10 * time.Millisecond)
	}
	if got := w.policy("d0.many.test"); got != "none sts-policy-fetch-error" {
		t.Error(got)
	}
}

// Who crowds us with domains whose policy hosts stall cannot have mail for others go without
// their policies: it waits.
func TestAttack75CrowdedOut(t *testing.T) {
	many := ""
	for i := range 4 {
		many += fmt.Sprintf("mta-sts.d%d.many.test. IN A 127.0.0.1\n_mta-sts.d%d.many.test. IN TXT \"v=STSv1; id=1\"\n", i, i)
	}
	w := start(t, many, func(o *Options) { o.Fetches, o.WaitTime, o.FetchTime = 1, 3*time.Second, 400*time.Millisecond })
	w.answer(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					w.pass(retryAfter) // they are tried again and again
					w.policy(fmt.Sprintf("d%d.many.test", i))
				}
			}
		})
	}
	for w.count("mta-sts.d0.many.test")+w.count("mta-sts.d1.many.test") == 0 {
		time.Sleep(time.Millisecond)
	}
	w.answer(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.Host, "mta-sts.example.org") {
			rw.Header().Set("Content-Type", "text/plain")
			fmt.Fprint(rw, enforce)
			return
		}
		<-r.Context().Done()
	})
	for range 3 {
		if got := w.policy("example.org"); got != "wait" && got != "enforce 1" {
			t.Error(got)
		}
	}
	close(stop)
	wg.Wait()
	for range 20 {
		if w.policy("example.org") == "enforce 1" {
			return
		}
	}
	t.Error("the policy never came")
}

// A stalled policy host cannot push aside the policy that is known.
func TestStalledRenewal(t *testing.T) {
	w := start(t, "", func(o *Options) { o.WaitTime = 200 * time.Millisecond })
	w.expect("first", "example.org", "enforce 1", 1)
	w.answer(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	w.zone(zone("2"))
	w.expect("stalls", "example.org", "enforce 1", 2)
	w.cache.Close() // does not hang
}

// A damaged record counts as none, and the next fetch mends it.
func TestDamagedRecord(t *testing.T) {
	w := start(t, "", nil)
	w.expect("first", "example.org", "enforce 1", 1)
	if err := w.cache.write(t.Context(), "example.org", kept{}); err != nil {
		t.Fatal(err)
	}
	w.again()
	w.expect("fetched anew", "example.org", "enforce 1", 2)
}

func TestNames(t *testing.T) {
	w := start(t, "", nil)
	for _, domain := range []string{"", "[127.0.0.1]", "a b", strings.Repeat("a.", 130) + "example"} {
		f, err := w.cache.Policy(context.Background(), domain)
		if f.Policy != nil || err != nil {
			t.Errorf("%q: %+v %v", domain, f, err)
		}
	}
}
