# Pancakes, for as many as come.
class Recipe
  include ActiveModel::Model
  include ActiveModel::Attributes

  FOR_ONE = { "flour, g" => 60, "milk, ml" => 125, "eggs" => 1, "butter, g" => 10 }.freeze

  attribute :people, :integer, default: 4

  validates :people, inclusion: { in: 1..100, message: "must be from 1 to 100" }

  def ingredients
    FOR_ONE.transform_values { |amount| amount * people }
  end
end
