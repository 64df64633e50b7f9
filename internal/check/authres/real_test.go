package authres

import "testing"

// Fields as large hosts and known programs write them, which do not always quote what they should.
func TestRealFields(t *testing.T) {
	for _, s := range []string{
		`mx.google.com; dkim=pass header.i=@x.com header.s=20230601 header.b="abc/+d=="; spf=pass (google.com: domain of a@x.com designates 2a00:1450::1 as permitted sender) smtp.mailfrom=a@x.com; dmarc=pass (p=NONE sp=QUARANTINE dis=NONE) header.from=x.com; dara=pass header.i=@y.com`,
		`mx.google.com; dkim=pass header.i=@x.com header.s=20230601 header.b=abc/+d==; dmarc=pass header.from=x.com`,
		`mx.google.com; spf=pass smtp.mailfrom=bounce+a=b.c@x.com; dmarc=pass header.from=x.com`,
		`mx.microsoft.com 1; spf=pass (sender ip is 1.2.3.4) smtp.rcpttodomain=c.com smtp.mailfrom=x.com; dmarc=pass (p=reject sp=reject pct=100) action=none header.from=x.com; dkim=pass (signature was verified) header.d=x.com; dkim=pass (signature was verified) header.d=x.onmicrosoft.com; arc=none (0)`,
		`mx.microsoft.com 1; spf=pass smtp.mailfrom=x.com; dmarc=pass action=none header.from=x.com; dkim=pass header.d=x.com; arc=pass (0 oda=1 ltdi=1 spf=[1,1,smtp.mailfrom=x.com] dkim=[1,1,header.d=x.com] dmarc=[1,1,header.from=x.com])`,
		`i.example; dkim=pass (2048-bit key; unprotected) header.d=x.com header.i=@x.com header.a=rsa-sha256 header.s=k header.b=AbC/dE; dkim-atps=neutral; dmarc=pass (policy=none) header.from=x.com`,
		`fastmail.com; x-csa=none; x-me-sender=none; x-ptr=pass smtp.helo=a.b policy.ptr=a.b; bimi=skipped (DMARC did not pass); dmarc=pass policy.published-domain-policy=none policy.applied-disposition=none policy.evaluated-disposition=none (p=none,d=none,d.eval=none) policy.policy-from=p header.from=x.com; iprev=pass policy.iprev="1.2.3.4 (a.b)"; spf=pass smtp.mailfrom=a@x.com smtp.helo=a.b`,
		`mail.protonmail.ch; dkim=pass (Good 2048 bit rsa-sha256 signature) header.d=x.com header.a=rsa-sha256; dmarc=pass (p=none dis=none) header.from=x.com; bimi=none`,
		`rspamd.example; dkim=pass header.d=x.com header.s=k header.b=dQ2=3; spf=pass (rspamd.example: domain of "a=b@x.com" designates 1.2.3.4 as permitted sender) smtp.mailfrom="a=b@x.com"; dmarc=pass (policy=none) header.from=x.com`,
	} {
		f, err := Parse(s)
		ok := false
		for _, r := range f.Results {
			ok = ok || r.Method == "dmarc" && r.Value == "pass"
		}
		if err != nil || !ok {
			t.Errorf("%.60s...: %v", s[len(s)-60:], err)
		}
	}
}
