//! What bodies are sealed with: kept once, and gone when they are destroyed.

use futures_util::future::join_all;
use natter::store::keys::Month;

use super::{Bed, user};

pub async fn a_key_is_kept_once_and_all_get_the_same(bed: &mut impl Bed) {
    let store = bed.store();
    let (ann, ben, month) = (user("ann"), user("ben"), Month(685));
    assert_eq!(store.keys.key(&ann, month).await.unwrap(), None);
    let tries = (0..16_u8).map(|n| store.keys.keep_key(&ann, month, vec![n; 33]));
    let kept: Vec<_> = join_all(tries).await.into_iter().map(Result::unwrap).collect();
    assert!(kept.iter().all(|key| *key == kept[0]), "{kept:?}");
    assert_eq!(store.keys.key(&ann, month).await.unwrap().as_ref(), Some(&kept[0]));
    // Of another month, and of another user.
    assert_eq!(store.keys.keep_key(&ann, Month(u16::MAX), vec![40; 61]).await.unwrap(), vec![40; 61]);
    assert_eq!(store.keys.keep_key(&ben, month, vec![41; 33]).await.unwrap(), vec![41; 33]);
    bed.reopen().await;
    let store = bed.store();
    assert_eq!(store.keys.key(&ann, month).await.unwrap().as_ref(), Some(&kept[0]));
    assert_eq!(store.keys.key(&ann, Month(u16::MAX)).await.unwrap(), Some(vec![40; 61]));
    assert_eq!(store.keys.keep_key(&ann, month, vec![50; 33]).await.unwrap(), kept[0]);
    assert_eq!(store.keys.key(&ann, Month(1)).await.unwrap(), None);
}

pub async fn destroyed_keys_do_not_come_back(bed: &mut impl Bed) {
    let store = bed.store();
    let (ann, anna) = (user("ann"), user("anna"));
    for month in 680..683 {
        store.keys.keep_key(&ann, Month(month), vec![1; 33]).await.unwrap();
    }
    store.keys.keep_key(&anna, Month(680), vec![2; 33]).await.unwrap();
    assert_eq!(store.keys.destroy_keys(&ann).await.unwrap(), 3);
    assert_eq!(store.keys.destroy_keys(&ann).await.unwrap(), 0);
    for month in 680..683 {
        assert_eq!(store.keys.key(&ann, Month(month)).await.unwrap(), None);
    }
    assert_eq!(store.keys.key(&anna, Month(680)).await.unwrap(), Some(vec![2; 33]), "that of another one");
    assert_eq!(store.keys.keep_key(&ann, Month(681), vec![3; 33]).await.unwrap(), vec![3; 33], "a new life");
    bed.reopen().await;
    let store = bed.store();
    assert_eq!(store.keys.key(&ann, Month(680)).await.unwrap(), None);
    assert_eq!(store.keys.key(&ann, Month(681)).await.unwrap(), Some(vec![3; 33]));
}

/// Each key is destroyed or is not: none that is kept while others are destroyed is half there.
pub async fn keys_that_are_kept_while_others_are_destroyed_stand_or_do_not(bed: &mut impl Bed) {
    let (store, ann) = (bed.store(), user("ann"));
    for round in 0..20_u8 {
        let month = Month(round.into());
        let key = vec![round; 33];
        let (kept, destroyed) =
            tokio::join!(store.keys.keep_key(&ann, month, key.clone()), store.keys.destroy_keys(&ann));
        destroyed.unwrap();
        assert_eq!(kept.unwrap(), key);
        let left = store.keys.key(&ann, month).await.unwrap();
        assert!(left.as_ref().is_none_or(|left| *left == key), "{left:?}");
        assert_eq!(store.keys.keep_key(&ann, month, key.clone()).await.unwrap(), key);
    }
    store.keys.destroy_keys(&ann).await.unwrap();
    for round in 0..20 {
        assert_eq!(store.keys.key(&ann, Month(round)).await.unwrap(), None);
    }
}
