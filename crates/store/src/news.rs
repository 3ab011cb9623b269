//! What is said of services as they move, kept until it has been passed on.
//!
//! News are stored in the transaction of the move that they tell of. Each reader remembers how far it has come
//! and may die at any instant: what it had not remembered is read again.

use ekiden_model::{narrative::News, time::Timestamp};

use crate::{
    Store, StoreError, Transaction,
    rows::{from_json, to_json},
};

/// The newest that are kept; a reader that is further behind misses the others.
pub const NEWS_KEPT_MAX: u32 = 20_000;

/// The counter of [`Store::ends_told`].
const ENDS_TOLD: &str = "ends_told";

/// News at their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberedNews {
    /// Grows, and is not used again.
    pub number: u64,
    /// The region of the service.
    pub region: String,
    /// What is said.
    pub news: News,
}

impl Store {
    /// Stores news that belong to no move of a service.
    ///
    /// # Errors
    /// Any.
    pub async fn put_news(&self, region: &str, news: &News) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        put(&mut transaction, region, news).await?;
        Ok(transaction.commit().await?)
    }

    /// Stores news of instances that have ended, and until when ends are told of; all of it or nothing.
    ///
    /// # Errors
    /// Any.
    pub async fn put_ends(
        &self,
        told: &[(String, News)],
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        for (region, news) in told {
            put(&mut transaction, region, news).await?;
        }
        sqlx::query(
            "INSERT INTO counters (name, value) VALUES (?, ?) \
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind(ENDS_TOLD)
        .bind(until.as_millis() as i64)
        .execute(&mut *transaction)
        .await?;
        Ok(transaction.commit().await?)
    }

    /// Until when ends of instances are told of.
    ///
    /// # Errors
    /// Any.
    pub async fn ends_told(&self) -> Result<Timestamp, StoreError> {
        let millis: Option<i64> = sqlx::query_scalar("SELECT value FROM counters WHERE name = ?")
            .bind(ENDS_TOLD)
            .fetch_optional(&self.readers)
            .await?;
        Ok(Timestamp::from_millis(millis.unwrap_or(0) as u64))
    }

    /// News after a number, oldest first.
    ///
    /// # Errors
    /// Any.
    pub async fn news_after(
        &self,
        number: u64,
        count: u32,
    ) -> Result<Vec<NumberedNews>, StoreError> {
        let rows: Vec<(i64, String, String)> =
            sqlx::query_as("SELECT id, region, record FROM news WHERE id > ? ORDER BY id LIMIT ?")
                .bind(number as i64)
                .bind(count)
                .fetch_all(&self.readers)
                .await?;
        let read = |(id, region, record): (i64, String, String)| {
            Ok(NumberedNews {
                number: id as u64,
                region,
                news: from_json("news", &record)?,
            })
        };
        rows.into_iter().map(read).collect()
    }

    /// The number of the newest, 0 when there were none.
    ///
    /// # Errors
    /// Any.
    pub async fn news_newest(&self) -> Result<u64, StoreError> {
        let newest: Option<i64> = sqlx::query_scalar("SELECT MAX(id) FROM news")
            .fetch_one(&self.readers)
            .await?;
        Ok(newest.unwrap_or(0) as u64)
    }

    /// How far a reader has come.
    ///
    /// # Errors
    /// Any.
    pub async fn news_read(&self, reader: &str) -> Result<Option<u64>, StoreError> {
        let number: Option<i64> =
            sqlx::query_scalar("SELECT news FROM news_readers WHERE name = ?")
                .bind(reader)
                .fetch_optional(&self.readers)
                .await?;
        Ok(number.map(|number| number as u64))
    }

    /// Remembers how far a reader has come; forgets the reader when that is absent.
    ///
    /// # Errors
    /// Any.
    pub async fn put_news_read(&self, reader: &str, number: Option<u64>) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let mut transaction = self.begin(&mut writer).await?;
        match number {
            Some(number) => put_read(&mut transaction, reader, number).await?,
            None => {
                sqlx::query("DELETE FROM news_readers WHERE name = ?")
                    .bind(reader)
                    .execute(&mut *transaction)
                    .await?;
            }
        }
        Ok(transaction.commit().await?)
    }
}

/// Stores news, and forgets the oldest beyond [`NEWS_KEPT_MAX`].
pub(crate) async fn put(
    transaction: &mut Transaction<'_>,
    region: &str,
    news: &News,
) -> Result<(), StoreError> {
    let stored = sqlx::query("INSERT INTO news (region, record) VALUES (?, ?)")
        .bind(region)
        .bind(to_json("news", news)?)
        .execute(&mut **transaction)
        .await?;
    sqlx::query("DELETE FROM news WHERE id <= ?")
        .bind(stored.last_insert_rowid() - i64::from(NEWS_KEPT_MAX))
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Remembers how far a reader has come.
pub(crate) async fn put_read(
    transaction: &mut Transaction<'_>,
    reader: &str,
    number: u64,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO news_readers (name, news) VALUES (?, ?) \
         ON CONFLICT (name) DO UPDATE SET news = excluded.news",
    )
    .bind(reader)
    .bind(number as i64)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
