package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/martlet-mail/martlet/internal/conf"
)

// What others report reads as a table with reasons below; what a stranger wrote moves no
// cursor.
func TestReportsForPeople(t *testing.T) {
	var v reportView
	for _, line := range []string{
		`{"kind":"dmarc","domain":"a.test","header_from":"a.test","source":"192.0.2.9","source_name":"x\u001b[2J","messages":25,"dmarc":"fail","spf":"fail","dkim":"fail","disposition":"reject","verified":true,"why":"nothing stands for it","fix":"nothing"}`,
		`{"kind":"dmarc","domain":"a.test","header_from":"a.test","source":"192.0.2.1","ours":true,"messages":974,"dmarc":"pass","spf":"pass","dkim":"pass","disposition":"pass","verified":true}`,
		`{"kind":"dmarc","domain":"a.test","header_from":"","source":"","messages":1,"dmarc":"pass","spf":"pass","dkim":"fail","disposition":"strange","verified":false}`,
		`{"kind":"dmarc","domain":"b.test","header_from":"b.test","source":"192.0.2.1","messages":0,"dmarc":"fail","spf":"fail","dkim":"fail","disposition":"none","verified":true}`,
		`{"kind":"tls","domain":"a.test","policy":"sts","result":"certificate-expired","host":"mx.a.test","sessions":1,"reporters":["big.test"],"reasons":["ended"],"verified":true,"why":"it has run out","fix":"renew it"}`,
		`{"kind":"tls","domain":"a.test","policy":"sts","result":"ok","sessions":3,"reporters":["big.test","small.test"],"verified":true}`,
	} {
		if err := v.add(json.RawMessage(line)); err != nil {
			t.Fatal(err)
		}
	}
	var b strings.Builder
	if err := v.print(&b, 0); err != nil {
		t.Fatal(err)
	}
	const want = `Mail in the name of a.test: 1000 messages, 97.5 % pass DMARC

MESSAGES  SOURCE      NAME         FROM    SPF   DKIM  RESULT
25        192.0.2.9   x?[2J        a.test  fail  fail  fails, refused
974       192.0.2.1   this server  a.test  pass  pass  delivered
1         all others  -                    pass  fail  strange (unverified)

  192.0.2.9: nothing stands for it
    fix: nothing

Mail in the name of b.test: 0 messages, - pass DMARC

MESSAGES  SOURCE     NAME  FROM    SPF   DKIM  RESULT
0         192.0.2.1  -     b.test  fail  fail  fails, delivered

TLS to a.test: 4 connections, 75.0 % as they should be

CONNECTIONS  RESULT               POLICY  HOST       REPORTED BY
1            certificate-expired  sts     mx.a.test  big.test
3            ok                   sts     -          big.test, small.test

  certificate-expired: it has run out (ended)
    fix: renew it

`
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	b.Reset()
	if err := new(reportView).print(&b, conf.Duration(0)); err != nil || !strings.HasPrefix(b.String(), "no report has come") {
		t.Errorf("%v %s", err, b.String())
	}
}
