use super::*;
use crate::store::contract;
#[test]
fn keeps_the_contract() {
    let path = std::env::temp_dir().join(format!("brokerlet-{}.redb", std::process::id()));
    contract::check_persistent(&|| Box::new(File::open(&path, 1 << 20).unwrap()));
    std::fs::remove_file(path).unwrap();
}
