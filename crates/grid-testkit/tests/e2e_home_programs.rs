//! Programs that nobody here wrote, moved in the middle of their work to a machine that sees the head's files, and home again.
//! What each needs beside the system, and whether it is there, is said.

#![allow(clippy::unwrap_used)] // all of this file is tests and their helpers

use grid_testkit::cluster::{Cluster, Guest};
use grid_testkit::lab::Lab;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// A worker on which the folder of the test is empty, and a lease there. None where this machine lacks what moves need.
fn apart(lab: &Lab) -> Option<Cluster> {
    let cluster = Cluster::configured(&lab.config("home"))?;
    lab.hide(cluster.dir()).unwrap();
    cluster.boost("--cpu 1 --memory 1GiB --duration 5m");
    Some(cluster)
}

fn is_there(program: &str) -> bool {
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    let there = std::env::split_paths(&dirs).any(|dir| dir.join(program).exists());
    if !there {
        println!("SKIPPED: no {program} on this machine");
    }
    there
}

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A connection of its own for each word: one that stays open would keep it where it is.
fn connect(at: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&at, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// Redis' answer to words in its inline form.
fn redis(at: SocketAddr, words: &str) -> std::io::Result<String> {
    let mut stream = connect(at)?;
    stream.write_all(format!("{words}\r\n").as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if let Some(length) = line.strip_prefix('$') {
        let length: usize = length.trim().parse().unwrap_or(0);
        let mut value = vec![0; length];
        reader.read_exact(&mut value)?;
        return Ok(String::from_utf8_lossy(&value).into_owned());
    }
    if line.is_empty() { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(line.trim().to_owned()) }
}

#[test]
fn redis_keeps_its_data_and_writes_its_files_at_home() {
    if !is_there("redis-server") {
        return;
    }
    let lab = Lab::start();
    let Some(cluster) = apart(&lab) else { return };
    let at = free_port();
    let start = format!("exec redis-server --port {} --dir . --appendonly yes --save '' --daemonize no", at.port());
    let guest = Guest::script(&cluster, &start);
    let say = |words: &str| cluster.wait("redis", || redis(at, words));
    let fill = |round: usize| {
        for n in 0..50 {
            assert_eq!(say(&format!("SET key:{round}:{n} {}", "x".repeat(500 + n))), "+OK");
        }
    };
    fill(0);
    let out = cluster.move_out(guest.pid());
    fill(1);
    // A child that writes files anew, there.
    assert!(say("BGREWRITEAOF").contains("rewriting started"));
    cluster.wait("the end of the rewrite", || {
        let info = redis(at, "INFO persistence").map_err(|e| e.to_string())?;
        if info.contains("aof_rewrite_in_progress:0") { Ok(()) } else { Err(info) }
    });
    cluster.bring_home(out.record.id.as_str());
    fill(2);
    assert_eq!(say("DBSIZE"), ":150");
    // It ends, and another one finds everything in the files at home.
    let _ = redis(at, "SHUTDOWN");
    guest.process.wait_gone(Duration::from_secs(20)).unwrap();
    let again = grid_testkit::procs::Detached::start(Path::new("/bin/sh"), &["-c", &start], &guest.dir).unwrap();
    cluster.wait("what it reads", || match redis(at, "DBSIZE") {
        Ok(size) if size == ":150" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(say("GET key:1:49"), "x".repeat(549));
    let _ = redis(at, "SHUTDOWN");
    again.wait_gone(Duration::from_secs(20)).unwrap();
}

#[test]
fn a_build_goes_on_there_and_at_home() {
    if !is_there("gcc") || !is_there("make") {
        return;
    }
    let lab = Lab::start();
    let Some(cluster) = apart(&lab) else { return };
    let script = r#"
mkdir src
for n in $(seq 24); do
  { echo '#include <math.h>'; echo '#include <stdio.h>'; echo '#include <stdlib.h>'; echo '#include <string.h>'
    for f in $(seq 40); do echo "double f${n}_$f(double x) { for (int i = 0; i < 9; i++) x = sin(x) * cos(x + i) + $f; return x; }"; done
    echo "int part$n(void) { return $n; }"; } >src/part$n.c
done
{ for n in $(seq 24); do echo "int part$n(void);"; done; echo '#include <stdio.h>'; echo 'int main(void) { int sum = 0;'
  for n in $(seq 24); do echo "sum += part$n();"; done; echo "printf(\"%d\", sum); return 0; }"; } >src/main.c
cat >Makefile <<'E'
parts := $(patsubst %.c,%.o,$(wildcard src/*.c))
prog: $(parts)
	while ! [ -e go ]; do sleep 0.05; done
	gcc -o $@ $^ -lm
%.o: %.c
	gcc -O2 -c -o $@ $<
E
echo ready >ready
make -j2 >made 2>&1
echo $? >status.new; mv status.new status
"#;
    let guest = Guest::script(&cluster, script);
    let objects = || {
        let names = std::fs::read_dir(guest.dir.join("src")).into_iter().flatten().flatten();
        names.filter(|e| e.file_name().to_string_lossy().ends_with(".o")).count()
    };
    let built =
        |count: usize| cluster.wait("parts to be built", || if objects() >= count { Ok(()) } else { Err(objects()) });
    built(3);
    let out = cluster.move_out(guest.pid());
    let at_move = objects();
    built((at_move + 3).min(25));
    cluster.bring_home(out.record.id.as_str());
    // Not before, however fast this machine is.
    std::fs::write(guest.dir.join("go"), "").unwrap();
    assert_eq!(guest.wait_text("status", |text| text.ends_with('\n')), "0\n", "{}", guest.read("made"));
    let said = Command::new(guest.dir.join("prog")).output().unwrap();
    assert_eq!(String::from_utf8(said.stdout).unwrap(), "300");
}

#[test]
fn a_node_server_answers_and_writes_at_home() {
    if !is_there("node") {
        return;
    }
    let lab = Lab::start();
    let Some(cluster) = apart(&lab) else { return };
    let at = free_port();
    let code = "const fs = require('fs'); let n = 0;\n\
        require('http').createServer((q, s) => { n++; fs.appendFileSync('hits', n + '\\n'); s.setHeader('Connection', 'close');\n\
        fs.readFile('page', 'utf8', (e, page) => s.end(n + ' ' + page)); }).listen(PORT, '127.0.0.1');\n";
    let code = code.replace("PORT", &at.port().to_string());
    let guest =
        Guest::script(&cluster, &format!("cat >server.js <<'E'\n{code}\nE\nUV_USE_IO_URING=0 exec node server.js"));
    let get = || {
        let mut stream = connect(at)?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let body = text
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.lines().find(|l| l.contains(' ')).unwrap_or(body).to_owned());
        body.ok_or_else(|| std::io::Error::other(text))
    };
    let mut count = 0;
    let mut ask = |page: &str| {
        std::fs::write(guest.dir.join("page"), page).unwrap();
        for _ in 0..10 {
            let said = cluster.wait("node", get);
            count += 1;
            let number: u32 = said.split(' ').next().unwrap().parse().unwrap();
            assert!(number >= count, "{said}");
            count = number;
        }
        cluster.wait("the page as it is now", || match get() {
            Ok(said) if said.ends_with(page) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        count = guest.read("hits").lines().count() as u32;
    };
    ask("first");
    let out = cluster.move_out(guest.pid());
    ask("second");
    cluster.bring_home(out.record.id.as_str());
    ask("third");
    let hits: Vec<String> = guest.read("hits").lines().map(str::to_owned).collect();
    assert_eq!(hits, (1..=hits.len()).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// Works block by block through a file of 1 GiB that is mapped, and waits before a block where it is told to.
const ARRAY: &str = r#"
import numpy, os, time
data = numpy.memmap('array', dtype='<u4', mode='r+')
block, total = 1 << 20, 0
for n in range(len(data) // block):
    while os.path.exists('wait') and n >= int(open('wait').read() or 0):
        time.sleep(0.02)
    part = data[n * block:(n + 1) * block]
    total += int(part.sum(dtype='u8'))
    part *= 3
    part += 1
    print(n, file=open('log', 'a'), flush=True)
data.flush()
with open('new', 'w') as f:
    f.write(f'{total}\n')
os.rename('new', 'total')
"#;

/// Before it: writes the file, every block another, and says its sum. After it: says whether every number is as it should be.
const AROUND: &str = r#"
import numpy, sys
block = 1 << 20
def numbers(n):
    return numpy.arange(n * block, (n + 1) * block, dtype='<u4') * numpy.uint32(2654435761)
if sys.argv[1] == 'write':
    with open('array', 'wb') as f:
        total = 0
        for n in range(256):
            total += int(numbers(n).sum(dtype='u8'))
            f.write(numbers(n).tobytes())
    print(total)
else:
    seen = numpy.memmap('array', dtype='<u4', mode='r')
    right = (numpy.array_equal(seen[n * block:(n + 1) * block], numbers(n) * 3 + 1) for n in range(256))
    print(len(seen) == 256 * block and all(right))
"#;

fn around(guest: &Guest, word: &str) -> String {
    let out = Command::new("/usr/bin/python3").args(["-c", AROUND, word]).current_dir(&*guest.dir).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

#[test]
fn numpy_goes_through_a_file_of_a_gibibyte_at_home_there_and_at_home_again() {
    if !Path::new("/usr/lib/python3/dist-packages/numpy").exists() {
        return println!("SKIPPED: no numpy on this machine");
    }
    let lab = Lab::start();
    let Some(cluster) = apart(&lab) else { return };
    let script = format!(
        "cat >job.py <<'E'\n{ARRAY}\nE\necho 0 >wait; while ! [ -e begin ]; do sleep 0.05; done; exec /usr/bin/python3 job.py"
    );
    let guest = Guest::script(&cluster, &script);
    let sum = around(&guest, "write");
    std::os::unix::fs::chown(guest.dir.join("array"), Some(grid_testkit::procs::NOBODY), None).unwrap();
    let until = |block: usize| {
        std::fs::write(guest.dir.join("wait"), block.to_string()).unwrap();
        let _ = std::fs::write(guest.dir.join("begin"), "");
        guest.wait_text("log", |text| text.lines().count() >= block);
        assert_eq!(guest.numbered("log"), block);
    };
    until(64);
    let out = cluster.move_out(guest.pid());
    until(88);
    cluster.bring_home(out.record.id.as_str());
    std::fs::remove_file(guest.dir.join("wait")).unwrap();
    assert_eq!(guest.wait_text("total", |text| text.ends_with('\n')).trim(), sum);
    guest.process.wait_gone(Duration::from_secs(20)).unwrap();
    assert_eq!((guest.numbered("log"), &*around(&guest, "check")), (256, "True"));
}
