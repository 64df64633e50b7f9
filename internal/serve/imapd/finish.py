import re,glob,sys,os
for f in glob.glob('/tmp/draft/*.out'):
    name=os.path.basename(f)[:-4]
    s=open(f).read()
    s=re.sub(r'UIDVALIDITY \d+','UIDVALIDITY ...',s)
    s=re.sub(r'COPYUID \d{10}','COPYUID ...',s)
    s=re.sub(r'\[CAPABILITY [^\]]*\]','[CAPABILITY ...]',s)
    s=re.sub(r'\* CAPABILITY .*','* CAPABILITY IMAP4rev1 IMAP4rev2 ...',s)
    if name!='condstore': s=re.sub(r'HIGHESTMODSEQ \d+','HIGHESTMODSEQ ...',s)
    s=s.rstrip('\n')+'\n'
    open('testdata/%s.txt'%name,'w').write(s)
