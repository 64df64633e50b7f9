package report_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/martlet-mail/martlet/internal/mail"
	"github.com/martlet-mail/martlet/internal/report"
	"github.com/martlet-mail/martlet/internal/syntax/mime"
)

// fixture is a report in the form of a large reporter.
func fixture(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.FromSlash(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func gz(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b)
	z.Close()
	return out.Bytes()
}

// zipped packs files, by name, content, name, content ...
func zipped(files ...string) []byte {
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for i := 0; i < len(files); i += 2 {
		w, _ := z.Create(files[i])
		_, _ = io.WriteString(w, files[i+1])
	}
	z.Close()
	return out.Bytes()
}

// post is a message with an attachment.
func post(subject, kind, name string, content []byte) string {
	text := base64.StdEncoding.EncodeToString(content)
	return "From: r@big.test\r\nTo: postmaster@here.test\r\nSubject: " + subject + "\r\nMIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" +
		"--b\r\nContent-Type: text/plain\r\n\r\na report\r\n--b\r\nContent-Type: " + kind + "\r\nContent-Transfer-Encoding: base64\r\nContent-Disposition: attachment; filename=\"" + name + "\"\r\n\r\n" +
		text + "\r\n--b--\r\n"
}

// arrived is a message as the road in tells of it.
func arrived(text, from string, to ...string) report.Letter {
	p := mime.NewParser(mime.DefaultLimits())
	_, _ = io.WriteString(p, text)
	m := p.Finish()
	l := report.Letter{
		At: midnight.Add(10 * time.Hour), Part: report.Attachment(m.Root, m.Subject), Reporter: from, Verified: true, Signed: true,
		Open: func(_ context.Context, off, n int64) (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(text[off : off+n])), nil
		},
	}
	for _, a := range to {
		addr, _ := mail.ParseAddress(a)
		l.To = append(l.To, addr)
	}
	return l
}

const fileName = "big.test!here.test!1772582400!1772668799"

// Reports come packed in many ways, and are known by what they hold.
func TestArrival(t *testing.T) {
	google, outlook := fixture(t, "aggregate/testdata/google.xml"), fixture(t, "aggregate/testdata/outlook.xml")
	tls := fixture(t, "tlsrpt/testdata/google.json")
	const dmarcLine, tlsLine = "dmarc here.test 2001:db8:77::1 2 spf=fail dkim=fail none by big.test true\ndmarc here.test 192.0.2.10 7 spf=pass dkim=pass none by big.test true\n",
		"tls here.test sts certificate-expired mx.here.test 3 by big.test true\ntls here.test sts ok  12 by big.test true\n"
	for _, c := range []struct {
		name, text, to string
		want           string
	}{
		{"gzip", post("Report domain: here.test Submitter: google.com Report-ID: 1", "application/gzip", fileName+".xml.gz", gz(google)), "postmaster@here.test", dmarcLine},
		{"zip", post("Report Domain: here.test", "application/zip", fileName+".zip", zipped("a/", "", fileName+".xml", string(google))), "postmaster@here.test", dmarcLine},
		{"plain", post("", "text/xml", fileName+".xml", google), "postmaster@here.test", dmarcLine},
		{"by its name only", post("hello", "application/octet-stream", fileName+".xml.gz", gz(google)), "Postmaster@HERE.test", dmarcLine},
		{"another form", post("Report Domain: here.test", "application/gzip", "x.xml.gz", gz(outlook)), "postmaster@here.test", "dmarc here.test 198.51.100.7 1 spf=fail dkim=fail reject by big.test true\n"},
		{"TLS", post("Report Domain: here.test", "application/tlsrpt+gzip", fileName+".json.gz", gz(tls)), "postmaster@here.test", tlsLine},
		{"TLS, plain", post("", "application/tlsrpt+json", "", tls), "postmaster@here.test", tlsLine},
		{"of a domain with umlauts", post("Report Domain: x", "application/gzip", "", gz(bytes.ReplaceAll(google, []byte("here.test"), []byte("xn--grn-ioa.test")))), "postmaster@gr\u00fcn.test",
			strings.ReplaceAll(dmarcLine, "here.test", "xn--grn-ioa.test")},
		{"to somebody else", post("Report Domain: here.test", "application/gzip", "", gz(google)), "bob@here.test", ""},
		{"no attachment", "Subject: Report Domain: here.test\r\n\r\nhello\r\n", "postmaster@here.test", ""},
		{"a picture", post("Report Domain: here.test", "image/png", fileName, google), "postmaster@here.test", ""},
		{"an invoice", post("your invoice", "application/zip", "invoice.zip", zipped("invoice.xml", string(google))), "postmaster@here.test", ""},
		{"about a domain elsewhere", post("Report Domain: x", "application/gzip", "", gz(bytes.ReplaceAll(google, []byte("here.test"), []byte("else.test")))), "bob@else.test", ""},
		{"about a domain that asks for none", post("Report Domain: x", "application/gzip", "", gz(bytes.ReplaceAll(google, []byte("here.test"), []byte("quiet.test")))), "postmaster@quiet.test", ""},
		{"of long ago", post("Report Domain: x", "application/gzip", "", gz(bytes.ReplaceAll(google, []byte(">1772"), []byte(">1672")))), "postmaster@here.test", ""},
		{"of the future", post("Report Domain: x", "application/gzip", "", gz(bytes.ReplaceAll(google, []byte(">1772"), []byte(">1872")))), "postmaster@here.test", ""},
		{"garbage", post("Report Domain: x", "application/gzip", "", []byte("\x1f\x8bgarbage")), "postmaster@here.test", ""},
		{"empty", post("Report Domain: x", "application/gzip", "", nil), "postmaster@here.test", ""},
	} {
		h := newHouse(t, "")
		h.set(midnight.Add(10 * time.Hour))
		took := h.book.Take(t.Context(), arrived(c.text, "big.test", c.to))
		if got := h.view(report.Query{}); got != c.want || took != (c.want != "") {
			t.Errorf("%s: taken %v\n%swant\n%s", c.name, took, got, c.want)
		}
	}
}

// Whoever cannot prove where a report is from is told apart, replaces nothing, and cannot
// keep others from being heard.
func TestForgedReports(t *testing.T) {
	h := newHouse(t, "")
	h.set(midnight.Add(10 * time.Hour))
	google := fixture(t, "aggregate/testdata/google.xml")
	real := arrived(post("Report Domain: here.test", "application/gzip", "", gz(google)), "google.com", "postmaster@here.test")
	forged := arrived(post("Report Domain: here.test", "application/gzip", "", gz(bytes.ReplaceAll(google, []byte("<count>7"), []byte("<count>7000")))), "google.com", "postmaster@here.test")
	forged.Verified, forged.Signed = false, false
	for range 2 { // one that comes twice counts once
		if !h.book.Take(t.Context(), real) || h.book.Take(t.Context(), forged) {
			t.Error("who may do without the message?")
		}
	}
	if got := h.view(report.Query{}); strings.Contains(got, "7000") || !strings.Contains(got, " 7 spf=pass") {
		t.Error(got)
	}
	forged.Reporter = "evil.test"
	h.book.Take(t.Context(), forged)
	if got := h.view(report.Query{}); !strings.Contains(got, "7000 spf=pass dkim=pass none by evil.test false") {
		t.Error(got)
	}
	tls := arrived(post("", "application/tlsrpt+gzip", "", gz(fixture(t, "tlsrpt/testdata/google.json"))), "google.com", "postmaster@here.test")
	tls.Signed = false // DMARC passed by SPF: not enough (RFC 8460, 3)
	h.book.Take(t.Context(), tls)
	if got := h.view(report.Query{Kind: report.TLS}); !strings.HasSuffix(got, "by google.com false\n") {
		t.Error(got)
	}
	for i := range 200 {
		var many strings.Builder
		for n := range 250 {
			fmt.Fprintf(&many, "<record><row><source_ip>10.%d.%d.1</source_ip><count>1</count></row><auth_results><spf><domain>%s.test</domain><result>fail</result></spf></auth_results></record>", i, n, strings.Repeat("x", 200))
		}
		flood := bytes.Replace(google, []byte("</feedback>"), []byte(many.String()+"</feedback>"), 1)
		l := arrived(post("Report Domain: here.test", "application/gzip", "", gz(flood)), fmt.Sprintf("e%d.test", i), "postmaster@here.test")
		l.Verified = false
		h.book.Take(t.Context(), l)
	}
	if n := h.book.Kept(t.Context()); n < 20 || n > 100 {
		t.Errorf("%d reports of a flood of 200 are kept", n)
	}
	real.Reporter = "another.test"
	if !h.book.Take(t.Context(), real) {
		t.Error("a flood of forged reports keeps true ones out")
	}
}

// Whatever names a stranger thinks of: what is about none of our domains is not kept, and what
// is below one counts to it.
func TestReportsAboutManyNames(t *testing.T) {
	google := fixture(t, "aggregate/testdata/google.xml")
	big := strings.Repeat("<record><row><source_ip>10.0.0.1</source_ip><count>1</count></row><auth_results><spf><domain>"+strings.Repeat("x", 250)+"</domain></spf></auth_results></record>", 250)
	for _, c := range []struct {
		name        string
		least, most int
	}{{"d%d.nowhere.example", 0, 0}, {"here%d.test", 0, 0}, {"d%d.here.test", 20, 60}, {"a.b.c.d.e.f.g.h.i.j%d.here.test", 0, 0}} {
		h := newHouse(t, "")
		h.set(midnight.Add(10 * time.Hour))
		for i := range 100 {
			text := bytes.ReplaceAll(google, []byte("here.test"), fmt.Appendf(nil, c.name, i))
			text = bytes.Replace(text, []byte("</feedback>"), []byte(big+"</feedback>"), 1)
			l := arrived(post("Report Domain: x", "application/gzip", "", gz(text)), "evil.test", "postmaster@here.test")
			l.Verified, l.Signed = false, false
			h.book.Take(t.Context(), l)
		}
		if n := h.book.Kept(t.Context()); n < c.least || n > c.most {
			t.Errorf("%d of 100 reports about %s are kept", n, c.name)
		}
	}
}

// While a host waits, one report is read at a time, of those that are verified and not large;
// the others go into the mailbox and are read later.
func TestTakeAtOnce(t *testing.T) {
	google := string(fixture(t, "aggregate/testdata/google.xml"))
	i, j := strings.Index(google, "<record>"), strings.LastIndex(google, "</feedback>")
	large := google[:i] + strings.Repeat("<record><row><source_ip>10.0.0.1</source_ip><count>1</count></row></record>", 60_000) + google[j:]
	letter := func(from, text string) report.Letter {
		return arrived(post("Report Domain: here.test", "application/gzip", "x.xml.gz", gz([]byte(text))), from, "postmaster@here.test")
	}
	forged := letter("forged.test", google)
	forged.Verified, forged.Signed = false, false
	h := newHouse(t, "")
	h.set(midnight.Add(10 * time.Hour))
	opened := 0
	forged.Open = func(context.Context, int64, int64) (io.ReadCloser, error) { opened++; return nil, errBusy }
	if h.book.TakeAtOnce(t.Context(), forged) || opened > 0 {
		t.Error("a report that nobody vouches for is read at once")
	}
	reading, release, done := make(chan struct{}), make(chan struct{}), make(chan bool)
	slow := letter("slow.test", google)
	open := slow.Open
	slow.Open = func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
		close(reading)
		<-release
		return open(ctx, off, n)
	}
	go func() { done <- h.book.TakeAtOnce(t.Context(), slow) }()
	<-reading
	if h.book.TakeAtOnce(t.Context(), letter("second.test", google)) {
		t.Error("two reports are read at once")
	}
	close(release)
	if !<-done {
		t.Error("a true report is not taken")
	}
	for try := 0; !h.book.TakeAtOnce(t.Context(), letter("third.test", google)); try++ { // it rests for a moment
		if try == 1000 {
			t.Fatal("the place of one that was read is not free again")
		}
		time.Sleep(time.Millisecond)
	}
	h = newHouse(t, "")
	h.set(midnight.Add(10 * time.Hour))
	if h.book.TakeAtOnce(t.Context(), letter("large.test", large)) || h.book.Kept(t.Context()) > 0 {
		t.Error("a large report is read at once")
	}
	h.book.TakeAtOnce(t.Context(), func() report.Letter { l := letter("forged.test", google); l.Verified = false; return l }())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go h.book.Run(ctx, nil)
	for try := 0; h.book.Kept(t.Context()) < 2; try++ {
		if try == 10_000 {
			t.Fatal("what was not read at once is not read later")
		}
		time.Sleep(time.Millisecond)
	}
}

// What is cut when it is stored is not whole without the message.
func TestCutReportNeedsItsMessage(t *testing.T) {
	google := string(fixture(t, "aggregate/testdata/google.xml"))
	i, j := strings.Index(google, "<record>"), strings.LastIndex(google, "</feedback>")
	long := strings.Repeat("y", 290)
	for _, c := range []struct {
		rows int
		all  bool
	}{{1000, true}, {11_000, false}} {
		h := newHouse(t, "")
		h.set(midnight.Add(10 * time.Hour))
		var rows strings.Builder
		for n := range c.rows {
			fmt.Fprintf(&rows, "<record><row><source_ip>10.0.%d.%d</source_ip><count>1</count></row><auth_results><dkim><domain>here.test</domain><selector>%s</selector><result>pass</result><human_result>%s</human_result></dkim></auth_results></record>", n>>8, n&255, long, long)
		}
		took := h.book.Take(t.Context(), arrived(post("Report Domain: here.test", "application/gzip", "", gz([]byte(google[:i]+rows.String()+google[j:]))), "google.com", "postmaster@here.test"))
		sources, _, err := h.book.View(t.Context(), report.Query{})
		if err != nil {
			t.Fatal(err)
		}
		sum := 0
		for _, s := range sources {
			sum += int(s.Messages)
		}
		if took != c.all || (sum == c.rows) != c.all || sum == 0 {
			t.Errorf("of %d rows %d are kept, and the message is not needed: %v", c.rows, sum, took)
		}
	}
}

// heapOf tells by how many bytes the heap grows at most while do runs.
func heapOf(do func()) int64 {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse)
	}
	runtime.GC()
	before, stop, most := heap(), make(chan struct{}), make(chan int64)
	go func() {
		top := before
		for {
			select {
			case <-stop:
				most <- max(top, heap())
				return
			case <-time.After(2 * time.Millisecond):
				top = max(top, heap())
			}
		}
	}()
	do()
	close(stop)
	return <-most - before
}

// zeros is a long file, without end if it need be.
type zeros struct{ head, unit, tail string }

// gz packs about n bytes of it. Members of a gzip file may stand one behind the other, so one
// does for all.
func (z zeros) gz(n int) []byte {
	block := z.unit
	if size := min(n, 16<<20); size > len(block) {
		block = strings.Repeat(z.unit, size/len(z.unit))
	}
	out := append(gz([]byte(z.head)), bytes.Repeat(gz([]byte(block)), n/len(block))...)
	return append(out, gz([]byte(z.tail))...)
}

// TestAttack73ReportBombs: reports that are small on the way and huge when they are opened
// cost bounded memory and little time, are not kept, and a true one is read afterwards.
func TestAttack73ReportBombs(t *testing.T) {
	google := string(fixture(t, "aggregate/testdata/google.xml"))
	start, _, _ := strings.Cut(google, "<record>")
	billion := `<?xml version="1.0"?><!DOCTYPE feedback [<!ENTITY a "ha">`
	for i, c := 0, 'b'; i < 9; i, c = i+1, c+1 {
		billion += fmt.Sprintf("<!ENTITY %c \"%s\">", c, strings.Repeat("&"+string(c-1)+";", 10))
	}
	billion += `]><feedback><report_metadata><org_name>&j;</org_name></report_metadata></feedback>`
	record := "<record><row><source_ip>192.0.2.1</source_ip><count>1</count></row></record>"
	inner := zipped("a.xml", google)
	for range 5 {
		inner = zipped("a.zip", string(inner))
	}
	jsonStart := `{"date-range":{"start-datetime":"2026-03-04T00:00:00Z","end-datetime":"2026-03-04T23:59:59Z"},"policies":[`
	lines := `["` + strings.Repeat(strings.Repeat("x", 200)+`","`, 49) + `"]`
	bombs := []struct {
		name, kind string
		content    []byte
		kept       string // of the view; "" nothing
	}{
		{"10 GB of gzip", "application/gzip", zeros{start, " ", ""}.gz(10 << 30), ""},
		{"a text of 1 GB", "application/gzip", zeros{start + "<record><row><count>", "1", ""}.gz(1 << 30), ""},
		{"a tag of 1 GB", "application/gzip", zeros{start + "<record a='", "1", ""}.gz(1 << 30), ""},
		{"a million attributes", "application/gzip", zeros{start + "<record ", "a='' ", "></feedback>"}.gz(5 << 20), ""},
		{"a million elements deep", "application/gzip", zeros{start, "<record>", ""}.gz(8 << 20), ""},
		{"a billion laughs", "application/xml", []byte(billion), ""},
		{"a file from outside", "application/xml", []byte(`<!DOCTYPE f [<!ENTITY x SYSTEM "file:///etc/passwd">]><feedback>&x;</feedback>`), ""},
		{"zip in zip in zip", "application/zip", inner, ""},
		{"zip of 100,000 files", "application/zip", zipped(strings.Split(strings.Repeat("x,,", 100_000), ",")[:200_000]...), ""},
		{"gzip in gzip", "application/gzip", gz(gz([]byte(google))), ""},
		{"a million records", "application/gzip", zeros{start, record, "</feedback>"}.gz(len(record) * 1_000_000), ""},
		{"as many records as are read", "application/gzip", zeros{start, record, "</feedback>"}.gz(len(record) * 60_000), "dmarc here.test 192.0.2.1 20000 "},
		{"records of many results", "application/gzip", zeros{start, "<record><row><source_ip>192.0.2.1</source_ip><count>1</count></row><auth_results>" + strings.Repeat("<dkim/>", 20) + strings.Repeat("<spf/>", 20) + "</auth_results></record>", "</feedback>"}.gz(380 * 19_000), "dmarc here.test 192.0.2.1 5000 "},
		{"empty records", "application/gzip", zeros{start, "<record/>", "</feedback>"}.gz(9 * 500_000), ""},
		{"JSON of 1 GB", "application/gzip", zeros{jsonStart, " ", ""}.gz(1 << 30), ""},
		{"JSON of many lists", "application/gzip", zeros{jsonStart, "{},", "{}]}"}.gz(3 << 20), ""},
		{"JSON that is deep", "application/gzip", zeros{jsonStart + `{"x":`, "[", ""}.gz(4 << 20), ""},
		{"rows of TLS with a long policy", "application/gzip", zeros{jsonStart + `{"policy":{"policy-type":"sts","policy-domain":"here.test","policy-string":` + lines + `,"mx-host":` + lines + `},"failure-details":[`,
			`{"result-type":"x","failed-session-count":1},`, `{}]}]}`}.gz(45 * 19_900), "tls here.test"},
		{"JSON with a long text", "application/gzip", zeros{jsonStart + `{"policy":{"policy-type":"`, "x", `"}}]}`}.gz(7 << 20), "tls here.test"},
	}
	for _, c := range bombs {
		h := newHouse(t, "")
		h.set(midnight.Add(10 * time.Hour))
		l := arrived(post("Report Domain: here.test", c.kind, "", c.content), "evil.test", "postmaster@here.test")
		if l.Part == nil {
			t.Fatalf("%s: no attachment", c.name)
		}
		held := heapOf(func() { h.book.Take(t.Context(), l) })
		t.Logf("%s: %d KB on the way, %d MB held", c.name, len(c.content)>>10, held>>20)
		if held > 160<<20 {
			t.Errorf("%s: %d MB of memory", c.name, held>>20)
		}
		got := h.view(report.Query{})
		if c.name == "JSON with a long text" { // it names no domain
			c.kept = ""
		}
		if !strings.HasPrefix(got, c.kept) || (got == "") != (c.kept == "") {
			t.Errorf("%s: %.200s", c.name, got)
		}
		if !h.book.Take(t.Context(), arrived(post("Report Domain: here.test", "application/gzip", "", gz([]byte(google))), "google.com", "postmaster@here.test")) {
			t.Errorf("%s: a true report is not read any more", c.name)
		}
	}
}

// FuzzAttachment: no structure of a message makes us look for long, and what is found is in it.
func FuzzAttachment(f *testing.F) {
	f.Add(post("Report Domain: here.test", "application/gzip", fileName, []byte("x")))
	f.Add("Content-Type: multipart/report; report-type=tlsrpt; boundary=b\r\n\r\n--b\r\nContent-Type: application/tlsrpt+gzip\r\n\r\nx\r\n--b--\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		p := mime.NewParser(mime.DefaultLimits())
		_, _ = io.WriteString(p, text)
		m := p.Finish()
		if part := report.Attachment(m.Root, m.Subject); part != nil && (part.Body < 0 || part.End > int64(len(text)) || part.Size() < 0) {
			t.Fatalf("%+v", part)
		}
	})
}
