use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};

use super::lines::LINE_BYTES;
use super::*;

const SOON: Duration = Duration::from_mins(1);

fn key() -> ServiceKey {
    ServiceKey::new("default", "iris")
}

/// Other tests start processes, which must not hold this open.
fn pipe() -> (OwnedFd, OwnedFd) {
    pipe_with(PipeFlags::CLOEXEC).unwrap()
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

/// Gives `bytes` to the log through a pipe, from a thread, as an app would.
fn print(log: &LogSink, bytes: impl FnOnce(&mut fs::File) + Send + 'static) {
    let (reader, writer) = pipe();
    log.attach(reader).unwrap();
    let mut writer = fs::File::from(writer);
    std::thread::spawn(move || bytes(&mut writer));
}

#[tokio::test]
async fn keeps_a_tail_and_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let log = Logs::new(dir.path().into(), FILE_BYTES, KEEP).open(&key(), "r-1").unwrap();
    let mut follower = log.follow();
    print(&log, |to| to.write_all(b"one\ntwo\nthr\xffee").unwrap());
    assert!(log.settled(SOON).await);
    log.note("pilotlight: exit status 3");
    assert!(log.settled(SOON).await);
    assert_eq!(log.last_lines(2), "thr\u{fffd}ee\npilotlight: exit status 3");
    assert_eq!(log.tail(100).len(), 4);
    assert_eq!(log.tail(0), []);
    assert_eq!(fs::read(log.path().unwrap()).unwrap(), b"one\ntwo\nthr\xffee\npilotlight: exit status 3\n");
    assert_eq!(log.path().unwrap(), dir.path().join("default/iris/r-1.log"));
    for number in 0..4 {
        assert_eq!(follower.recv().await.unwrap(), log.tail(100)[number]);
    }
}

#[tokio::test]
async fn the_file_is_closed_once_nobody_prints_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let log = Logs::new(dir.path().into(), FILE_BYTES, KEEP).open(&key(), "r-1").unwrap();
    let open = || {
        let links = fs::read_dir("/proc/self/fd").unwrap().flatten();
        links.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|to| to.starts_with(dir.path()))
    };
    print(&log, |to| to.write_all(b"one\n").unwrap());
    assert!(log.settled(SOON).await);
    tokio::time::timeout(SOON, async {
        while open() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    log.note("pilotlight: exit status 3");
    assert!(log.settled(SOON).await);
    assert_eq!(fs::read(log.path().unwrap()).unwrap(), b"one\npilotlight: exit status 3\n");
}

#[tokio::test]
async fn an_unfinished_line_is_seen() {
    let log = LogSink::memory();
    let (reader, writer) = pipe();
    log.attach(reader).unwrap();
    rustix::io::write(&writer, b"a\nPassword: ").unwrap();
    tokio::time::timeout(SOON, async {
        while log.last_lines(9) != "a\nPassword: " {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
    assert!(!log.settled(Duration::from_millis(1)).await);
    drop(writer);
    assert!(log.settled(SOON).await);
    assert_eq!(log.last_lines(9), "a\nPassword: ");
}

#[tokio::test]
async fn bounds_hold_under_a_flood() {
    let dir = tempfile::tempdir().unwrap();
    let log = Logs::new(dir.path().into(), 1 << 20, KEEP).open(&key(), "r-1").unwrap();
    let _idle_follower = log.follow();
    print(&log, |to| {
        let line = [b'x'; 99];
        let mut block: Vec<u8> = Vec::new();
        (0..1000).for_each(|_| block.extend(line.iter().chain(b"\n")));
        for _ in 0..200 {
            to.write_all(&block).unwrap();
        }
        to.write_all(&vec![b'y'; 10 << 20]).unwrap();
        to.write_all(b"\n").unwrap();
        let binary: Vec<u8> =
            (0..20_u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        to.write_all(&binary).unwrap();
        to.write_all(b"\nlast\n").unwrap();
    });
    let (path, previous) = (log.path().unwrap().to_owned(), log.previous_path().unwrap());
    while !log.settled(Duration::from_millis(5)).await {
        assert!(size(&path) <= 1 << 20 && size(&previous) <= 1 << 20);
        let kept: usize = log.tail(usize::MAX).iter().map(|line| line.text.len()).sum();
        assert!(kept <= TAIL_BYTES + 4 * LINE_BYTES, "{kept}");
    }
    assert_eq!(log.last_lines(1), "last");
    assert!(fs::read(&path).unwrap().ends_with(b"\nlast\n"));
    assert!(size(&previous) > 900 << 10 && size(&previous) <= 1 << 20);
}

#[tokio::test]
async fn old_logs_go_and_open_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::new(dir.path().into(), FILE_BYTES, 3);
    let open: Vec<_> = (0..5).map(|n| logs.open(&key(), &format!("open-{n}")).unwrap()).collect();
    for n in 0..8 {
        let log = logs.open(&key(), &format!("old-{n}")).unwrap();
        fs::write(log.previous_path().unwrap(), "").unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + n);
        fs::File::open(log.path().unwrap()).unwrap().set_modified(time).unwrap();
    }
    let newest = logs.open(&key(), "newest").unwrap();
    let mut left: Vec<String> = fs::read_dir(newest.path().unwrap().parent().unwrap())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("open-"))
        .collect();
    left.sort();
    assert_eq!(left, ["newest.log", "old-6.log", "old-6.log.1", "old-7.log", "old-7.log.1"]);
    assert!(open.iter().all(|log| log.path().unwrap().exists()));
}

#[tokio::test]
async fn a_stuck_disk_stops_neither_the_app_nor_the_tail() {
    let dir = tempfile::tempdir().unwrap();
    let logs = Logs::new(dir.path().into(), 64 << 20, KEEP);
    // A FIFO that nobody reads is a disk that takes 64 KiB and then nothing.
    let path = dir.path().join("default/iris/r-1.log");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut disk = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let log = logs.open(&key(), "r-1").unwrap();
    print(&log, |to| {
        let block = b"some line of an app\n".repeat(1000);
        for _ in 0..250 {
            to.write_all(&block).unwrap();
        }
        to.write_all(b"last\n").unwrap();
    });
    let printed = async {
        while log.last_lines(1) != "last" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, printed).await.expect("5 MB come through although nothing is written");
    assert!(!log.settled(Duration::from_millis(1)).await);

    // The disk is back: what waited is written, and what is missing is said.
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        let mut block = vec![0; 64 << 10];
        while !text.ends_with(b"\nlast\n") {
            let length = std::io::Read::read(&mut disk, &mut block).unwrap();
            text.extend_from_slice(&block[..length]);
        }
        String::from_utf8(text).unwrap()
    });
    assert!(log.settled(SOON).await);
    let text = reader.join().unwrap();
    assert!(text.len() < 5_000_000 && text.contains("bytes left out here, the disk was too slow]\n"));
}
